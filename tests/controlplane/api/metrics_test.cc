#include "controlplane/api/metrics.h"

#include <fstream>
#include <map>
#include <regex>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "controlplane/api/router.h"
#include "tests/controlplane/api/fixed_control.h"

namespace sluice::api {
namespace {

using testing::HasSubstr;
using testing::Not;

class Metrics : public testing::Test {
 protected:
  std::string get(const std::string &query = "") {
    const Response response =
        handle({.method = "GET", .target = "/metrics" + query, .caller = administrator()}, control);
    EXPECT_EQ(response.status, 200u) << response.body;
    EXPECT_EQ(response.content_type, "text/plain; version=0.0.4; charset=utf-8");
    return response.body;
  }
  std::string refusal_of(const std::string &query, unsigned status) {
    const Response response =
        handle({.method = "GET", .target = "/metrics" + query, .caller = administrator()}, control);
    EXPECT_EQ(response.status, status);
    return response.body;
  }

  FixedControl control;
};

TEST_F(Metrics, each_family_has_help_and_type_before_its_samples) {
  const std::string text = get();
  EXPECT_THAT(text, HasSubstr("# HELP sluice_backend_up 1 while the backend takes new connections.\n"
                              "# TYPE sluice_backend_up gauge\n"
                              "sluice_backend_up{pool=\"web\",backend=\"b1\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE sluice_packets_total counter\n"));
  EXPECT_THAT(text, HasSubstr("sluice_packets_total{verdict=\"forward_new\",class=\"forward\"} 42\n"));
  EXPECT_THAT(text, HasSubstr("sluice_drops_total{reason=\"no_backend\"} 7\n"));
  EXPECT_THAT(text, Not(HasSubstr("sluice_drops_total{reason=\"forward")));
  EXPECT_THAT(text, HasSubstr("sluice_service_packets_total{service=\"web\",direction=\"in\"} 10\n"));
  EXPECT_THAT(text, HasSubstr("sluice_backend_packets_total{pool=\"web\",backend=\"b1\"} 11\n"));
  EXPECT_THAT(text, HasSubstr("sluice_connections 3\n"));
  EXPECT_THAT(text, HasSubstr("sluice_metrics_left_out{kind=\"backends\"} 5\n"));
}

TEST_F(Metrics, label_values_are_escaped) {
  EXPECT_THAT(get(), HasSubstr("sluice_backend_up{pool=\"we\\\"b\\\\\\n\",backend=\"b2\"} 0\n"));
}

TEST_F(Metrics, durations_are_a_histogram_of_what_was_carried_out) {
  const std::string text = get();
  EXPECT_THAT(text, HasSubstr("sluice_health_checks_total{type=\"http\",outcome=\"not_carried_out\"} 1\n"));
  const std::string family = "sluice_health_check_duration_seconds";
  EXPECT_THAT(text, HasSubstr(family + "_bucket{type=\"http\",le=\"0.001\"} 1\n"));
  EXPECT_THAT(text, HasSubstr(family + "_bucket{type=\"http\",le=\"0.002\"} 1\n"));
  EXPECT_THAT(text, HasSubstr(family + "_bucket{type=\"http\",le=\"0.005\"} 2\n"));
  EXPECT_THAT(text, HasSubstr(family + "_bucket{type=\"http\",le=\"5\"} 2\n"));
  EXPECT_THAT(text, HasSubstr(family + "_bucket{type=\"http\",le=\"+Inf\"} 3\n"));
  EXPECT_THAT(text, HasSubstr(family + "_sum{type=\"http\"} 6.004\n"));
  EXPECT_THAT(text, HasSubstr(family + "_count{type=\"http\"} 3\n"));
}

TEST_F(Metrics, of_a_worker_that_does_not_count_its_time_there_is_no_ratio) {
  const std::string text = get();
  EXPECT_THAT(text, HasSubstr("sluice_worker_busy_ratio{worker=\"0\"} 0.25\n"));
  EXPECT_THAT(text, Not(HasSubstr("sluice_worker_busy_ratio{worker=\"1\"}")));
}

TEST_F(Metrics, without_a_dataplane_no_traffic_is_told) {
  control.dataplane_reachable = false;
  const std::string text = get();
  EXPECT_THAT(text, HasSubstr("sluice_backend_up"));
  for (const char *family : {"sluice_packets_total", "sluice_service_packets_total",
                             "sluice_backend_packets_total", "sluice_connections", "sluice_worker"})
    EXPECT_THAT(text, Not(HasSubstr(family)));
}

// "name": "type" of each family.
using Families = std::map<std::string, std::string>;

TEST_F(Metrics, documentation_lists_each_family_with_its_type) {
  Families rendered;
  std::istringstream text(get());
  for (std::string line; std::getline(text, line);) {
    std::smatch parts;
    if (std::regex_match(line, parts, std::regex("# TYPE (\\S+) (\\S+)"))) rendered[parts[1]] = parts[2];
  }
  Families documented;
  std::ifstream file(METRICS_MD);
  for (std::string line; std::getline(file, line);) {
    std::smatch parts;
    if (std::regex_search(line, parts, std::regex("^\\| `(sluice_[a-z_]+)[^`]*` \\| (\\S+) \\|")))
      documented[parts[1]] = parts[2];
  }
  EXPECT_EQ(rendered, documented);
}

TEST_F(Metrics, are_filtered) {
  EXPECT_THAT(get("?backends=none"), Not(HasSubstr("sluice_backend_")));
  EXPECT_THAT(get("?services=none"), Not(HasSubstr("sluice_service_")));
  EXPECT_THAT(get("?pools=none"), Not(HasSubstr("sluice_pool_")));
  get("?pool=web");
  EXPECT_EQ(control.calls.back(), "metrics web");
  EXPECT_THAT(refusal_of("?backends=some", 400),
              HasSubstr("backends: \\\"some\\\" is not known; allowed: auto, all, none"));
  EXPECT_THAT(refusal_of("?pool=nope", 404), HasSubstr("no pool is named"));
  EXPECT_THAT(refusal_of("?every=1", 400), HasSubstr("unknown"));
}

}  // namespace
}  // namespace sluice::api
