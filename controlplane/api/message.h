// A request and a response of the REST API, apart from any transport.
#ifndef SLUICE_CONTROLPLANE_API_MESSAGE_H
#define SLUICE_CONTROLPLANE_API_MESSAGE_H

#include <string>

namespace sluice::api {

struct Request {
  std::string method;  // "GET"
  std::string target;  // path and query, as on the request line
  std::string body;
};

struct Response {
  unsigned status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::string allow;  // the Allow header of a 405; empty: none
};

}  // namespace sluice::api

#endif
