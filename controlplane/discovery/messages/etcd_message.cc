#include "controlplane/discovery/messages/etcd_message.h"

#include <charconv>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>
#include <openssl/evp.h>
#include <spdlog/fmt/fmt.h>

#include "controlplane/config/field_reader.h"
#include "controlplane/discovery/messages/entry.h"

namespace sluice {

namespace {

using nlohmann::json;

std::string encode(std::string_view bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');
  const int length =
      EVP_EncodeBlock(reinterpret_cast<unsigned char *>(text.data()),
                      reinterpret_cast<const unsigned char *>(bytes.data()), static_cast<int>(bytes.size()));
  text.resize(static_cast<size_t>(length));
  return text;
}

std::optional<std::string> decode(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  std::string bytes(text.size() / 4 * 3, '\0');
  const int length =
      EVP_DecodeBlock(reinterpret_cast<unsigned char *>(bytes.data()),
                      reinterpret_cast<const unsigned char *>(text.data()), static_cast<int>(text.size()));
  if (length < 0) return std::nullopt;
  const size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  bytes.resize(static_cast<size_t>(length) - padding);
  return bytes;
}

// The member, or nothing where there is none, or `object` is none.
const json *member(const json &object, const char *name) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(name);
  return found == object.end() ? nullptr : &*found;
}

std::optional<std::string> text_member(const json &object, const char *name) {
  const json *found = member(object, name);
  if (found == nullptr || !found->is_string()) return std::nullopt;
  return found->get<std::string>();
}

// protobuf's JSON writes 64 bits as text, and leaves a zero out.
int64_t number_member(const json &object, const char *name) {
  const std::string text = text_member(object, name).value_or("0");
  int64_t number = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), number);
  return fault == std::errc{} && end == text.data() + text.size() ? number : -1;
}

// A key and its value (mvccpb.KeyValue).
std::optional<std::pair<std::string, std::string>> key_value(const json &kv) {
  const auto key = decode(text_member(kv, "key").value_or(""));
  const auto value = decode(text_member(kv, "value").value_or(""));
  if (!key || key->empty() || !value) return std::nullopt;
  return std::pair(*key, *value);
}

Error no_answer(std::string_view what, std::string_view body) {
  return Error{fmt::format("the answer is no {} of etcd: {}", what, in_quotes(body))};
}

// The end of the range of keys that begin with `prefix` (etcd's api guide): the last byte of a printable one
// always has a next.
std::string range_end(std::string_view prefix) {
  std::string end(prefix);
  if (!end.empty()) ++end.back();
  return end;
}

}  // namespace

std::string etcd_range_request(std::string_view prefix) {
  return json{{"key", encode(prefix)}, {"range_end", encode(range_end(prefix))}}.dump();
}

std::string etcd_watch_request(std::string_view prefix, int64_t first_revision) {
  return json{{"create_request",
               {{"key", encode(prefix)},
                {"range_end", encode(range_end(prefix))},
                {"start_revision", std::to_string(first_revision)}}}}
      .dump();
}

std::string etcd_login_request(std::string_view username, std::string_view password) {
  return json{{"name", username}, {"password", password}}.dump(-1, ' ', false,
                                                               json::error_handler_t::replace);
}

Result<EtcdRange> parse_etcd_range(std::string_view body) {
  const json document = json::parse(body, nullptr, false);
  const json *header = member(document, "header");
  EtcdRange range;
  range.revision = header == nullptr ? 0 : number_member(*header, "revision");
  if (range.revision <= 0) return no_answer("range", body);
  const json *values = member(document, "kvs");
  if (values == nullptr) return range;
  if (!values->is_array()) return no_answer("range", body);
  for (const json &each : *values) {
    auto value = key_value(each);
    if (!value) return no_answer("range", each.dump(-1, ' ', false, json::error_handler_t::replace));
    range.values.insert(std::move(*value));
  }
  return range;
}

Result<EtcdNews> parse_etcd_news(std::string_view line) {
  const json document = json::parse(line, nullptr, false);
  const json *result = member(document, "result");
  if (result == nullptr) return Error{etcd_error_text(line)};
  EtcdNews news;
  const json *canceled = member(*result, "canceled");
  news.canceled = canceled != nullptr && canceled->is_boolean() && canceled->get<bool>();
  if (news.canceled) {
    const int64_t compacted = number_member(*result, "compact_revision");
    news.reason = compacted > 0 ? fmt::format("compacted up to revision {}", compacted)
                                : text_member(*result, "cancel_reason").value_or("canceled");
  }
  const json *events = member(*result, "events");
  if (events == nullptr) return news;
  if (!events->is_array()) return no_answer("watch", line);
  for (const json &event : *events) {
    const json *kv = member(event, "kv");
    auto value = kv == nullptr ? std::nullopt : key_value(*kv);
    if (!value) return no_answer("watch", line);
    const bool deleted = text_member(event, "type") == "DELETE";
    news.events.push_back({std::move(value->first), deleted, std::move(value->second)});
  }
  return news;
}

Result<std::string> parse_etcd_token(std::string_view body) {
  auto token = text_member(json::parse(body, nullptr, false), "token");
  // What could end a header, or begin another, is no token.
  const auto is_visible = [](char c) { return c > ' ' && c < 0x7f; };
  if (!token || token->empty() || !std::ranges::all_of(*token, is_visible)) {
    return Error{"the answer has no token: " + etcd_error_text(body)};
  }
  return *token;
}

std::string etcd_error_text(std::string_view body) {
  const json document = json::parse(body, nullptr, false);
  if (const auto text = text_member(document, "error")) return *text;
  const json *error = member(document, "error");
  const auto text = error == nullptr ? std::nullopt : text_member(*error, "message");
  return text.value_or(in_quotes(body));
}

Answer etcd_backends(const std::map<std::string, std::string> &values, uint16_t weight) {
  Answer answer;
  for (const auto &[key, value] : values) {
    const std::string_view name = std::string_view(key).substr(key.rfind('/') + 1);
    const Result<EntryFields> fields = json_fields(value);
    Result<FoundBackend> backend = Error{};
    if (!fields.ok()) {
      backend = fields.error();
    } else if (name.empty()) {
      backend = Error{"the key ends with \"/\""};
    } else {
      backend = make_entry(fields.value(), name, weight);
    }
    if (backend.ok()) {
      answer.backends.push_back(backend.value());
    } else {
      answer.skipped.add(fmt::format("key {}: {}", in_quotes(key), backend.error().message));
    }
  }
  return answer;
}

}  // namespace sluice
