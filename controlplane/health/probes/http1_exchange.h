// One request over HTTP/1.1 by Boost.Beast: it costs a fraction of libcurl's, which checks that need HTTP/2
// use.
#ifndef SLUICE_CONTROLPLANE_HEALTH_PROBES_HTTP1_EXCHANGE_H
#define SLUICE_CONTROLPLANE_HEALTH_PROBES_HTTP1_EXCHANGE_H

#include <optional>
#include <string>

#include <boost/beast/http/verb.hpp>

#include "controlplane/health/probes/stream.h"

namespace sluice {

/// On a connection of its own. `spec` and `check` must outlive it.
class Http1Exchange {
 public:
  Http1Exchange(ProbeContext &context, const CheckSpec &spec, const model::HttpCheck &check);

  /// Until the answer's end, or until its body is longer than a check reads. Nothing: there is an answer.
  ProbeStep perform();

  long status() const { return status_; }
  const std::string &body() const { return body_; }  // up to kMaxAnswerBytes

 private:
  template <typename Next>
  ProbeStep read_answer(Next &next, boost::beast::http::verb method);
  Ended judge(boost::system::error_code error);

  const CheckSpec &spec_;
  const model::HttpCheck &check_;
  ProbeStream stream_;
  long status_ = 0;
  std::string body_;
};

/// What a request's Host header says when the operator does not: the server's name, or its address and port.
std::string default_host(const CheckSpec &spec, const std::optional<model::TlsOptions> &tls);

/// What is wrong with an answer that Beast could not read, in its errors of HTTP; `header_bytes` is its limit
/// of the header.
std::string misread_text(const boost::system::error_code &error, size_t header_bytes);

}  // namespace sluice

#endif
