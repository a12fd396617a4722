// Any bytes as what a source of backends says: backends that may be used, or none.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "controlplane/config/field_reader.h"
#include "controlplane/discovery/messages/backend_list.h"
#include "controlplane/discovery/messages/consul_message.h"
#include "controlplane/discovery/messages/dns_message.h"
#include "controlplane/discovery/messages/etcd_message.h"
#include "controlplane/discovery/messages/registration.h"
#include "dataplane/abi/snapshot.h"

namespace {

using sluice::Answer;
using sluice::FoundBackend;

void require(bool holds) {
  if (!holds) __builtin_trap();
}

void require_usable(const FoundBackend &backend) {
  require(sluice::is_name(backend.name));
  require(sluice::address_fault(backend.address) == nullptr);
  require(backend.weight <= sluice::kMaxWeight);
  require(backend.weight > 0 || backend.drain);
}

void require_tidy(const Answer &answer) {
  for (const FoundBackend &backend : answer.backends) require_usable(backend);
  const Answer tidy = sluice::tidied(answer);
  require(tidy.backends.size() + tidy.skipped.count() == answer.backends.size() + answer.skipped.count());
  for (size_t i = 1; i < tidy.backends.size(); ++i)
    require(tidy.backends[i - 1].name < tidy.backends[i].name);
}

void try_dns(std::string_view bytes) {
  const auto records = sluice::parse_dns_answer(bytes);
  if (!records.ok()) return;
  require_tidy(sluice::address_backends(records.value().addresses, 100));
  std::map<std::string, std::vector<sluice::Address>> addresses;
  for (const sluice::DnsTarget &target : records.value().targets)
    addresses[target.name] = records.value().addresses;
  // Each target has each address: as many as both together would be too many to try.
  if (records.value().targets.size() * records.value().addresses.size() < 1000)
    require_tidy(sluice::target_backends(records.value().targets, addresses, 100));
}

void try_etcd(std::string_view bytes) {
  const auto range = sluice::parse_etcd_range(bytes);
  if (range.ok()) require_tidy(sluice::etcd_backends(range.value().values, 100));
  const auto news = sluice::parse_etcd_news(bytes);
  if (news.ok()) require(!news.value().canceled || !news.value().reason.empty());
  const auto token = sluice::parse_etcd_token(bytes);
  if (token.ok()) require(token.value().find_first_of("\r\n ") == std::string::npos);
  require_tidy(sluice::etcd_backends({{"/web/b1", std::string(bytes)}, {std::string(bytes), "{}"}}, 100));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char *>(data), size);
  if (const auto list = sluice::parse_backend_list(bytes, 100); list.ok()) require_tidy(list.value());
  if (const auto list = sluice::parse_consul_instances(bytes, 100); list.ok()) require_tidy(list.value());
  if (const auto backend = sluice::parse_registration("b1", bytes); backend.ok())
    require_usable(backend.value());
  (void)sluice::next_consul_index(7, bytes);
  try_dns(bytes);
  try_etcd(bytes);
  return 0;
}
