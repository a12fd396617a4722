#include "controlplane/config/tls_reader.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <utility>

namespace sluice {
namespace {

using namespace std::chrono_literals;

constexpr std::chrono::milliseconds kMaxMinValidity = 24h * 3650;

constexpr std::array<std::string_view, 7> kTlsKeys = {
    "verify", "server_name", "ca_file", "certificate_file", "key_file", "min_version", "min_validity"};

template <typename Value>
void put(const std::optional<Value> &value, Value *place) {
  if (value) *place = *value;
}

void read_server_name(const Field &field, FieldReader &reader, std::string *name) {
  const auto word = reader.word(field, kMaxHostLength);
  if (!word) return;
  *name = *word;
  if (!is_host_name(*word)) {
    reader.error(field, in_quotes(*word) +
                            " is no host name; allowed: letters, digits, \"-\", \"_\" and single \".\"");
  }
}

void read_files(const Field &field, FieldReader &reader, model::TlsOptions *tls) {
  const std::pair<std::string_view, std::string *> files[] = {
      {"ca_file", &tls->ca_file}, {"certificate_file", &tls->certificate_file}, {"key_file", &tls->key_file}};
  for (const auto &[key, file] : files) {
    if (const auto path = FieldReader::find(field, key)) put(reader.word(*path, kMaxFilePathLength), file);
  }
  if (tls->certificate_file.empty() != tls->key_file.empty()) {
    reader.error(field, "has one of certificate_file and key_file; a client's certificate needs both");
  }
}

}  // namespace

bool is_host_name(std::string_view text) {
  const auto is_allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  };
  return !text.empty() && std::ranges::all_of(text, is_allowed) && !text.starts_with('.') &&
         !text.ends_with('.') && text.find("..") == std::string_view::npos && !parse_address(text);
}

std::optional<model::TlsOptions> read_tls_options(const Field &field, FieldReader &reader) {
  if (!reader.is_map(field, kTlsKeys)) return std::nullopt;
  const auto find = [&](std::string_view key) { return FieldReader::find(field, key); };
  model::TlsOptions tls;
  if (const auto verify = find("verify")) put(reader.boolean(*verify), &tls.verify);
  if (const auto name = find("server_name")) read_server_name(*name, reader, &tls.server_name);
  read_files(field, reader, &tls);
  if (const auto version = find("min_version")) {
    using enum model::TlsVersion;
    put(reader.choice<model::TlsVersion>(*version, {{"1.2", kTls12}, {"1.3", kTls13}}), &tls.min_version);
  }
  if (const auto validity = find("min_validity")) {
    const auto duration = reader.duration(*validity, 0ms, kMaxMinValidity);
    if (duration) tls.min_validity = std::chrono::ceil<std::chrono::hours>(*duration);
  }
  if (!tls.verify) {
    for (const std::string_view key : {"ca_file", "min_validity"}) {
      if (const auto useless = find(key))
        reader.error(*useless, "has no meaning with verify: false; remove one of the two");
    }
  }
  return tls;
}

std::span<const std::string_view> tls_keys() { return kTlsKeys; }

}  // namespace sluice
