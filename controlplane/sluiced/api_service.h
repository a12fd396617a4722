// The REST API as a part of the daemon: its own thread for what comes from outside, the control loop for what
// it asks.
#ifndef SLUICE_CONTROLPLANE_SLUICED_API_SERVICE_H
#define SLUICE_CONTROLPLANE_SLUICED_API_SERVICE_H

#include <filesystem>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>

#include "controlplane/api/control.h"
#include "controlplane/api/gate.h"
#include "controlplane/api/https_server.h"
#include "controlplane/api/preconditions.h"
#include "controlplane/api/unix_server.h"
#include "controlplane/model/api_access.h"
#include "dataplane/abi/result.h"

namespace sluice {

/// TLS, HTTP, authentication and limits are the API's thread's work, so that no client holds up the control
/// loop; each request that was let in is answered there, one after the other.
class ApiService {
 public:
  struct Options {
    std::filesystem::path socket_path;
    std::filesystem::path log_directory;  // of the audit logs
  };

  /// `control_io` is the control loop's and runs on the thread that uses this object, `control` is asked
  /// there. Both must outlive it. Fails with what is wrong with the socket, the audit logs, or a field of
  /// `spec`.
  static Result<std::unique_ptr<ApiService>> start(boost::asio::io_context &control_io, api::Control &control,
                                                   const Options &options, const model::ApiSpec &spec);

  /// Ends the thread and all connections.
  ~ApiService();
  ApiService(const ApiService &) = delete;
  ApiService &operator=(const ApiService &) = delete;

  /// Reads the files and binds the addresses that `spec` names. Nothing is used before the function that it
  /// gives is called. The error names the field and the file, and everything stays as it was.
  Result<std::function<void()>> prepare(const model::ApiSpec &spec);

  /// A change that was ordered past the API, for the audit log.
  void note_change(const std::string &who, const std::string &what, const api::ChangeNote &change);

 private:
  ApiService(boost::asio::io_context &control_io, api::Control &control);

  Status listen(const Options &options, const model::ApiSpec &spec);
  void answer(const api::Request &request, const api::Reply &reply);

  boost::asio::io_context &control_io_;
  api::Control &control_;
  api::IdempotencyMemory idempotency_;         // the control loop's
  std::vector<model::ListenAddress> listens_;  // the control loop's

  boost::asio::io_context io_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_{io_.get_executor()};
  api::Gate gate_;  // this and what follows: the API's thread's
  std::unique_ptr<api::UnixServer> unix_;
  std::unique_ptr<api::HttpsServer> https_;
  std::thread thread_;
  boost::asio::thread_pool beside_{1};  // checks configurations, which takes seconds
};

}  // namespace sluice

#endif
