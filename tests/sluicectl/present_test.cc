#include "tools/sluicectl/present.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "controlplane/api/render.h"
#include "tests/controlplane/api/fixed_control.h"
#include "tools/sluicectl/table.h"

namespace sluice::ctl {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

// Through the API's own rendering, so that the two cannot part.
json as_client(const json &body) { return json::parse(api::json_response(200, body).body); }

TEST(Table, aligns_columns_and_leaves_no_spaces_at_line_ends) {
  Table table({{"NAME"}, {"COUNT", Align::kRight}, {"TEXT"}});
  table.add({"a", "5", "x"});
  table.add({"longer", "12345", ""});
  EXPECT_EQ(table.text(),
            "NAME    COUNT  TEXT\n"
            "a           5  x\n"
            "longer  12345  -\n");
}

TEST(Table, counts_letters_not_bytes) {
  Table table({{"NAME"}, {"X"}});
  table.add({"\xc3\xa4\xc3\xb6", "1"});
  table.add({"abcde", "2"});
  EXPECT_EQ(table.text(), "NAME   X\n\xc3\xa4\xc3\xb6     1\nabcde  2\n");
}

TEST(Grouped, marks_thousands) {
  EXPECT_EQ(grouped(0), "0");
  EXPECT_EQ(grouped(999), "999");
  EXPECT_EQ(grouped(1000), "1,000");
  EXPECT_EQ(grouped(18446744073709551615ull), "18,446,744,073,709,551,615");
}

TEST(SpanText, names_the_two_largest_units) {
  EXPECT_EQ(span_text(-5), "0s");
  EXPECT_EQ(span_text(59), "59s");
  EXPECT_EQ(span_text(61), "1m 1s");
  EXPECT_EQ(span_text(7260), "2h 1m");
  EXPECT_EQ(span_text(3 * 86400 + 4 * 3600), "3d 4h");
}

TEST(TimeText, is_utc) { EXPECT_EQ(time_text(1'700'000'000), "2023-11-14 22:13:20 UTC"); }

TEST(Present, status_says_what_is_wrong) {
  api::StatusView view;
  view.version = "1.2.3";
  view.uptime_s = 65;
  view.config_path = "/etc/sluice/sluice.yaml";
  view.config_problem = "sluice.yaml:3:1: services: missing";
  view.pending = true;
  view.clock_step_s = -7200;
  view.dataplane.state = "dataplane unreachable: connection refused";
  const std::string text = present_status(as_client(to_json(view)));
  EXPECT_THAT(text, HasSubstr("version 1.2.3, up 1m 5s"));
  EXPECT_THAT(text, HasSubstr("sluice.yaml:3:1"));
  EXPECT_THAT(text, HasSubstr("the host's clock was set back by 2h"));
  EXPECT_THAT(text, HasSubstr("dataplane unreachable: connection refused"));
  EXPECT_THAT(text, HasSubstr("waits for the dataplane"));
}

TEST(Present, status_shows_what_the_dataplane_says) {
  api::StatusView view;
  view.dataplane.connected = true;
  view.dataplane.state = "connected";
  view.dataplane.engine = "dpdk";
  view.dataplane.details = {{"ports", {{{"name", "front"}, {"queues", 2}}}}, {"memory", nullptr}};
  const std::string text = present_status(as_client(to_json(view)));
  EXPECT_THAT(text, HasSubstr("connected, engine dpdk"));
  EXPECT_THAT(text, HasSubstr("  ports:\n    -\n      name: front\n      queues: 2\n"));
}

TEST(Present, backends_in_columns) {
  api::FixedControl control;
  json body = {{"backends", json::array()}};
  for (const auto &view : control.backends(std::nullopt)) body["backends"].push_back(to_json(view));
  const std::string text = present_backends(as_client(body));
  EXPECT_THAT(text, HasSubstr("web   b1       10.1.0.11  configuration     100  75.0%"));
  EXPECT_THAT(text, HasSubstr("down: connection refused\n"));
  EXPECT_EQ(present_backends({{"backends", json::array()}}), "No backends are configured.\n");
}

TEST(Present, sources_in_words_and_what_is_not_used_of_them) {
  api::FixedControl control;
  const std::string text = present_discovery(as_client({{"sources", api::to_json(control.discovery())}}));
  EXPECT_THAT(text,
              HasSubstr("web   dns web.example (srv)  failing         5  server 10.0.0.1 did not answer\n"));
  EXPECT_THAT(text, HasSubstr("Not used:\n  pool web: target \"b\xef\xbf\xbd\" has no address\n"));
  EXPECT_EQ(present_discovery({{"sources", json::array()}}), "No pool has a source of backends.\n");
}

TEST(Present, status_names_the_sources_that_are_not_in_order) {
  api::FixedControl control;
  api::StatusView view;
  EXPECT_THAT(present_status(as_client(to_json(view))), Not(HasSubstr("discovery")));
  view.sources = control.discovery();
  view.sources.push_back({.pool = "fine", .type = "file", .source = "file /a", .state = SourceState::kOk});
  view.sources.push_back({.pool = "jobs", .type = "registration", .source = "registration"});
  const std::string text = present_status(as_client(to_json(view)));
  EXPECT_THAT(
      text,
      HasSubstr("discovery  3 sources, 1 of them not in order\n"
                "           pool web: dns web.example (srv): failing: server 10.0.0.1 did not answer\n"));
  EXPECT_THAT(text, Not(HasSubstr("pool fine")));
  EXPECT_THAT(text, Not(HasSubstr("pool jobs")));
}

TEST(Present, one_service_with_its_members) {
  api::FixedControl control;
  json body = to_json(control.services("web").at(0));
  body["members"] = json::array({to_json(control.backends("web").at(0))});
  const std::string text = present_service(as_client(body));
  EXPECT_THAT(text, HasSubstr("198.51.100.10,2001:db8::10"));
  EXPECT_THAT(text, HasSubstr("80,8000-8999"));
  EXPECT_THAT(text, HasSubstr("established 900 s"));
  EXPECT_THAT(text, HasSubstr("b1"));
}

TEST(Present, connections_and_how_many_were_left_out) {
  api::FixedControl control;
  const std::string text = present_connections(as_client(api::to_json(control.connections({}).value())));
  EXPECT_THAT(
      text,
      HasSubstr("tcp       192.0.2.1:40000  198.51.100.10:80  web      web/b1   established    3s     900s"));
  EXPECT_THAT(text, HasSubstr("1 of 5 connections"));
  EXPECT_EQ(present_connections({{"connections", json::array()}, {"matched", 0}}), "No connections.\n");
}

TEST(Present, counters_hide_zero_rows_unless_all_are_asked_for) {
  api::FixedControl control;
  const json body = as_client(to_json(control.counters().value()));
  const std::string some = present_counters(body, Rows::kNonZero);
  EXPECT_THAT(some, HasSubstr("forward_new  forward       42"));
  EXPECT_THAT(some, Not(HasSubstr("drop_internal")));
  const std::string all = present_counters(body, Rows::kAll);
  EXPECT_THAT(all, HasSubstr("drop_internal"));
}

TEST(Present, counters_tell_what_a_backends_clients_did) {
  api::FixedControl control;
  api::CountersView counters = control.counters().value();
  counters.backends.resize(1);
  counters.backends[0].pool = "web";
  counters.backends[0].name = "b1";
  counters.backends[0].traffic = {.packets = 9,
                                  .bytes = 900,
                                  .opened_connections = 8,
                                  .active_connections = 7,
                                  .tcp_opens = 6,
                                  .tcp_progresses = 5,
                                  .tcp_repeated_opens = 4,
                                  .tcp_resets = 3,
                                  .unreachables = 2};
  const std::string text = present_counters(as_client(to_json(counters)), Rows::kNonZero);
  EXPECT_THAT(text, HasSubstr("PACKETS  BYTES  OPENED  ACTIVE  SYN  WENT ON  SYN AGAIN  RST  UNREACHABLE\n"));
  EXPECT_THAT(text, HasSubstr("      9    900       8       7    6        5          4    3            2\n"));
}

TEST(Present, problems_with_every_error) {
  const api::Response response = api::problem(
      422, "2 errors",
      {{"a.yaml", 3, 5, "pools[0].slots", "4", "not a prime"}, {"a.yaml", 0, 0, "", "", "cannot be read"}});
  EXPECT_EQ(present_problem(response.body, ""),
            "2 errors\na.yaml:3:5: pools[0].slots: not a prime\na.yaml: cannot be read");
  EXPECT_EQ(present_problem("<html>", "fallback"), "fallback");
  EXPECT_EQ(present_problem("[1]", "fallback"), "fallback");
}

}  // namespace
}  // namespace sluice::ctl
