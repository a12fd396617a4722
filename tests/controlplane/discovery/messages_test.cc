// What sources say, as bytes, becomes backends; what is none is named.
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "controlplane/discovery/messages/backend_list.h"
#include "controlplane/discovery/messages/consul_message.h"
#include "controlplane/discovery/messages/dns_message.h"
#include "controlplane/discovery/messages/entry.h"
#include "controlplane/discovery/messages/etcd_message.h"
#include "controlplane/discovery/messages/registration.h"

namespace sluice {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string shown(const FoundBackend &backend) {
  std::string text =
      backend.name + " " + format_address(backend.address) + " " + std::to_string(backend.weight);
  if (backend.priority != 0) text += " priority " + std::to_string(backend.priority);
  if (backend.check_port != 0) text += " check " + std::to_string(backend.check_port);
  return backend.drain ? text + " drain" : text;
}

std::vector<std::string> shown(const Answer &answer) {
  std::vector<std::string> texts;
  for (const FoundBackend &backend : answer.backends) texts.push_back(shown(backend));
  return texts;
}

TEST(BackendList, is_read_from_yaml_and_from_json) {
  const auto yaml = parse_backend_list(
      "- {name: b1, address: 10.1.0.11}\n"
      "- address: 2001:db8::12\n"
      "  weight: 50\n"
      "  priority: 1\n"
      "  check_port: 8080\n"
      "- {name: b3, address: 10.1.0.13, drain: true}\n",
      100);
  ASSERT_TRUE(yaml.ok()) << yaml.error().message;
  EXPECT_THAT(shown(yaml.value()),
              ElementsAre("b1 10.1.0.11 100", "2001-db8--12 2001:db8::12 50 priority 1 check 8080",
                          "b3 10.1.0.13 100 drain"));
  const auto json = parse_backend_list(R"([{"name": "b1", "address": "10.1.0.11", "weight": 0}])", 100);
  ASSERT_TRUE(json.ok()) << json.error().message;
  EXPECT_THAT(shown(json.value()), ElementsAre("b1 10.1.0.11 0 drain"));
}

TEST(BackendList, skips_a_bad_entry_and_says_where_it_is) {
  const auto list = parse_backend_list(
      "- {name: b1, address: 10.1.0.11}\n"
      "- {name: b2, address: 10.1.0.300}\n"
      "- {name: -b, address: 10.1.0.12}\n"
      "- {name: b4, address: 224.0.0.1}\n"
      "- {name: b5, address: 10.1.0.15, weight: 1001}\n"
      "- {name: b6, address: 10.1.0.16, wieght: 7}\n"
      "- {name: b7}\n"
      "- b8\n"
      "- {name: b9, address: [10.1.0.19]}\n",
      100);
  ASSERT_TRUE(list.ok());
  EXPECT_THAT(shown(list.value()), ElementsAre("b1 10.1.0.11 100"));
  EXPECT_THAT(
      list.value().skipped.first(),
      ElementsAre("line 2: address \"10.1.0.300\" is no IPv4 or IPv6 address",
                  HasSubstr("line 3: name \"-b\""), "line 4: address \"224.0.0.1\" is a multicast address",
                  "line 5: weight \"1001\" is no whole number from 0 to 1000",
                  HasSubstr("line 6: key \"wieght\" is not known"), "line 7: address is missing",
                  HasSubstr("line 8: is no map"), "line 9: \"address\" is no single value"));
}

TEST(BackendList, of_nothing_is_empty_only_where_it_says_so) {
  const auto none = parse_backend_list("[]", 100);
  ASSERT_TRUE(none.ok());
  EXPECT_THAT(none.value().backends, IsEmpty());
  for (const char *text : {"", "\n", "backends: []", "- {name: b1", "- &a {name: b1}\n", "just text"}) {
    EXPECT_FALSE(parse_backend_list(text, 100).ok()) << text;
  }
  EXPECT_EQ(parse_backend_list("", 100).error().message, "is empty; [] stands for no backends");
  EXPECT_THAT(parse_backend_list("- {name: b1", 100).error().message, HasSubstr("line "));
}

TEST(JsonFields, are_single_values_of_one_object) {
  const auto fields = json_fields(R"({"address": "10.0.0.1", "weight": 5, "drain": true})");
  ASSERT_TRUE(fields.ok());
  EXPECT_EQ(fields.value(), (EntryFields{{"address", "10.0.0.1"}, {"weight", "5"}, {"drain", "true"}}));
  for (const char *text : {"", "[]", "7", "{", R"({"address": ["10.0.0.1"]})",
                           R"({"address": {"a": {"b": 1}}})", R"({"address": null})"}) {
    EXPECT_FALSE(json_fields(text).ok()) << text;
  }
  EXPECT_FALSE(json_fields("{\"a\": \"" + std::string(5000, 'x') + "\"}").ok());
}

// Keys and values are base64, 64-bit numbers are text.
TEST(EtcdRange, gives_each_keys_last_part_as_a_name) {
  // "pools/web/b1" -> {"address":"10.1.0.11","weight":50}; "pools/web/b2" -> nonsense
  const auto range = parse_etcd_range(
      R"({"header":{"cluster_id":"1","revision":"12"},"kvs":[)"
      R"({"key":"cG9vbHMvd2ViL2Ix","create_revision":"2","value":"eyJhZGRyZXNzIjoiMTAuMS4wLjExIiwid2VpZ2h0Ijo1MH0="},)"
      R"({"key":"cG9vbHMvd2ViL2Iy","value":"bm9uc2Vuc2U="}],"count":"2"})");
  ASSERT_TRUE(range.ok()) << range.error().message;
  EXPECT_EQ(range.value().revision, 12);
  const Answer answer = etcd_backends(range.value().values, 100);
  EXPECT_THAT(shown(answer), ElementsAre("b1 10.1.0.11 50"));
  EXPECT_THAT(answer.skipped.first(), ElementsAre("key \"pools/web/b2\": \"nonsense\" is no JSON object"));
}

TEST(EtcdRange, without_keys_is_an_answer_and_any_other_text_is_none) {
  const auto none = parse_etcd_range(R"({"header":{"revision":"1"}})");
  ASSERT_TRUE(none.ok());
  EXPECT_THAT(none.value().values, IsEmpty());
  for (const char *text :
       {"", "{}", "[]", R"({"header":{"revision":"x"}})", R"({"header":{"revision":"1"},"kvs":7})",
        R"({"header":{"revision":"1"},"kvs":[{"key":"?"}]})", R"({"header":{"revision":"1"},"kvs":[7]})"}) {
    EXPECT_FALSE(parse_etcd_range(text).ok()) << text;
  }
}

TEST(EtcdNews, are_puts_and_deletions) {
  const auto news = parse_etcd_news(
      R"({"result":{"header":{"revision":"3"},"events":[{"kv":{"key":"YQ==","value":"e30="}},)"
      R"({"type":"DELETE","kv":{"key":"Yg=="}}]}})");
  ASSERT_TRUE(news.ok()) << news.error().message;
  ASSERT_EQ(news.value().events.size(), 2u);
  EXPECT_EQ(news.value().events[0].key, "a");
  EXPECT_EQ(news.value().events[0].value, "{}");
  EXPECT_FALSE(news.value().events[0].deleted);
  EXPECT_EQ(news.value().events[1].key, "b");
  EXPECT_TRUE(news.value().events[1].deleted);
}

TEST(EtcdNews, tell_of_a_watch_that_was_ended) {
  const auto compacted =
      parse_etcd_news(R"({"result":{"header":{},"canceled":true,"compact_revision":"9","created":true}})");
  ASSERT_TRUE(compacted.ok());
  EXPECT_TRUE(compacted.value().canceled);
  EXPECT_EQ(compacted.value().reason, "compacted up to revision 9");
  EXPECT_EQ(parse_etcd_news(R"({"error":{"grpc_code":14,"message":"no leader"}})").error().message,
            "no leader");
}

TEST(EtcdRequests, are_of_all_keys_with_the_prefix) {
  EXPECT_EQ(etcd_range_request("a/"), R"({"key":"YS8=","range_end":"YTA="})");
  EXPECT_EQ(etcd_watch_request("a/", 13),
            R"({"create_request":{"key":"YS8=","range_end":"YTA=","start_revision":"13"}})");
}

TEST(EtcdToken, cannot_carry_another_header) {
  EXPECT_EQ(parse_etcd_token(R"({"token":"abc.7"})").value(), "abc.7");
  EXPECT_FALSE(parse_etcd_token("{\"token\":\"abc\\r\\nX: y\"}").ok());
  EXPECT_FALSE(parse_etcd_token(R"({"token":""})").ok());
}

TEST(ConsulInstances, have_the_services_address_or_else_the_nodes) {
  const auto answer = parse_consul_instances(
      R"([{"Node":{"Node":"n1","Address":"10.0.0.1"},"Service":{"ID":"web-1","Address":"10.1.0.11","Port":8080,)"
      R"("Weights":{"Passing":10,"Warning":1}}},)"
      R"({"Node":{"Node":"n2","Address":"2001:db8::2"},"Service":{"ID":"web-1","Address":"","Port":0,)"
      R"("Weights":{"Passing":30}}},)"
      R"({"Node":{"Node":"n3","Address":"db.example"},"Service":{"ID":"web-9"}}, 7])",
      100);
  ASSERT_TRUE(answer.ok()) << answer.error().message;
  EXPECT_THAT(shown(answer.value()),
              ElementsAre("10.1.0.11 10.1.0.11 10 check 8080", "2001-db8--2 2001:db8::2 30"));
  EXPECT_THAT(answer.value().skipped.first(),
              ElementsAre("node \"n3\", service \"web-9\": address \"db.example\" is no IPv4 or IPv6 address",
                          HasSubstr("node \"\"")));
}

TEST(ConsulInstances, of_equal_weight_have_the_pools) {
  const auto answer = parse_consul_instances(
      R"([{"Node":{"Address":"10.0.0.1"},"Service":{}},{"Node":{"Address":"10.0.0.2"},"Service":{}}])", 70);
  ASSERT_TRUE(answer.ok());
  EXPECT_THAT(shown(answer.value()), ElementsAre("10.0.0.1 10.0.0.1 70", "10.0.0.2 10.0.0.2 70"));
  EXPECT_FALSE(parse_consul_instances("rpc error: No cluster leader", 70).ok());
}

TEST(ConsulIndex, begins_anew_when_it_goes_back_or_is_none) {
  EXPECT_EQ(next_consul_index(7, "9"), 9u);
  EXPECT_EQ(next_consul_index(7, "7"), 7u);
  EXPECT_EQ(next_consul_index(7, "6"), 0u);
  EXPECT_EQ(next_consul_index(7, "x"), 0u);
  EXPECT_EQ(next_consul_index(7, ""), 0u);
}

TEST(Registration, is_a_backend_with_a_time) {
  const auto backend = parse_registration("b1", R"({"address": "10.1.0.11", "ttl": "10s", "weight": 7})");
  ASSERT_TRUE(backend.ok()) << backend.error().message;
  EXPECT_EQ(shown(backend.value()), "b1 10.1.0.11 7");
  EXPECT_EQ(backend.value().ttl, std::chrono::seconds(10));
  EXPECT_THAT(parse_registration("b1", R"({"address": "10.1.0.11"})").error().message,
              HasSubstr("ttl is missing"));
  EXPECT_THAT(parse_registration("b1", R"({"address": "10.1.0.11", "ttl": "10ms"})").error().message,
              HasSubstr("ttl \"10ms\""));
  EXPECT_THAT(parse_registration("b/1", R"({"address": "10.1.0.11", "ttl": "10s"})").error().message,
              HasSubstr("name \"b/1\""));
  EXPECT_THAT(parse_registration("b1", "ttl: 10s").error().message, HasSubstr("the body"));
}

// A message by hand: header, one question, and answers.
class Message {
 public:
  explicit Message(int answers) {
    bytes_ = std::string("\x12\x34\x81\x80\0\1", 6) + number16(answers) + std::string(4, '\0');
    bytes_ += std::string("\3web\7example\0", 13) + number16(1) + number16(1);
  }

  Message &record(int type, uint32_t ttl, const std::string &data) {
    bytes_ += "\xc0\x0c" + number16(type) + number16(1) + number16(static_cast<int>(ttl >> 16)) +
              number16(static_cast<int>(ttl & 0xffff)) + number16(static_cast<int>(data.size())) + data;
    return *this;
  }

  static std::string number16(int number) {
    return {static_cast<char>(number >> 8 & 0xff), static_cast<char>(number & 0xff)};
  }

  const std::string &bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

const std::string kIpv6 = std::string("\x20\x01\x0d\xb8", 4) + std::string(11, '\0') + "\x07";

TEST(DnsAnswer, has_addresses_of_both_families_and_the_smallest_ttl) {
  Message message(3);
  message.record(5, 20, std::string("\xc0\x0c", 2)).record(1, 300, "\x0a\x01\x02\x03").record(28, 60, kIpv6);
  const auto records = parse_dns_answer(message.bytes());
  ASSERT_TRUE(records.ok()) << records.error().message;
  EXPECT_THAT(records.value().addresses,
              ElementsAre(*parse_address("10.1.2.3"), *parse_address("2001:db8::7")));
  EXPECT_EQ(records.value().ttl, std::chrono::seconds(20));
  EXPECT_THAT(shown(address_backends(records.value().addresses, 100)),
              ElementsAre("10.1.2.3 10.1.2.3 100", "2001-db8--7 2001:db8::7 100"));
}

TEST(DnsAnswer, has_targets_with_priority_weight_and_port) {
  Message message(1);
  message.record(33, 60,
                 Message::number16(1) + Message::number16(20) + Message::number16(8080) +
                     std::string("\2B1\7example\0", 12));
  const auto records = parse_dns_answer(message.bytes());
  ASSERT_TRUE(records.ok()) << records.error().message;
  ASSERT_EQ(records.value().targets.size(), 1u);
  const DnsTarget &target = records.value().targets[0];
  EXPECT_EQ(target.name, "b1.example");
  EXPECT_EQ(target.priority, 1);
  EXPECT_EQ(target.weight, 20);
  EXPECT_EQ(target.l4_port, 8080);
}

TEST(DnsAnswer, that_is_cut_anywhere_is_an_error_or_has_less) {
  Message message(3);
  message.record(1, 300, "\x0a\x01\x02\x03")
      .record(28, 60, kIpv6)
      .record(33, 60,
              Message::number16(1) + Message::number16(2) + Message::number16(3) + std::string("\1b\0", 3));
  ASSERT_TRUE(parse_dns_answer(message.bytes()).ok());
  for (size_t length = 0; length < message.bytes().size(); ++length) {
    EXPECT_FALSE(parse_dns_answer(message.bytes().substr(0, length)).ok()) << length;
  }
}

TEST(DnsAnswer, of_a_record_of_another_length_is_damaged) {
  EXPECT_FALSE(parse_dns_answer(Message(1).record(1, 1, "\x0a\x01\x02").bytes()).ok());
  EXPECT_FALSE(parse_dns_answer(Message(1).record(28, 1, "\x0a\x01\x02\x03").bytes()).ok());
  EXPECT_FALSE(parse_dns_answer(Message(1).record(33, 1, "\1\1").bytes()).ok());
}

TEST(DnsTargets, give_each_of_their_addresses_what_they_have) {
  const std::map<std::string, std::vector<Address>> addresses = {
      {"b1.example", {*parse_address("10.0.0.1"), *parse_address("2001:db8::1")}}, {"b2.example", {}}};
  const Answer answer = target_backends(
      {{"b1.example", 1, 5, 80}, {"b2.example", 0, 7, 80}, {"b3.example", 0, 9, 80}, {"", 0, 0, 0}},
      addresses, 100);
  EXPECT_THAT(shown(answer), ElementsAre("10.0.0.1 10.0.0.1 100 priority 1 check 80",
                                         "2001-db8--1 2001:db8::1 100 priority 1 check 80"));
  EXPECT_THAT(answer.skipped.first(),
              ElementsAre("target \"b2.example\" has no address", "target \"b3.example\" has no address"));
}

}  // namespace
}  // namespace sluice
