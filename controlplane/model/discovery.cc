#include "controlplane/model/discovery.h"

namespace sluice::model {

namespace {

std::string_view record_name(DnsRecord record) {
  switch (record) {
    case DnsRecord::kAddress:
      return "address";
    case DnsRecord::kA:
      return "a";
    case DnsRecord::kAaaa:
      return "aaaa";
    case DnsRecord::kSrv:
      return "srv";
  }
  return "";
}

struct KindName {
  std::string_view operator()(const NoSource &) const { return "none"; }
  std::string_view operator()(const FileSource &) const { return "file"; }
  std::string_view operator()(const DnsSource &) const { return "dns"; }
  std::string_view operator()(const EtcdSource &) const { return "etcd"; }
  std::string_view operator()(const ConsulSource &) const { return "consul"; }
  std::string_view operator()(const RegistrationSource &) const { return "registration"; }
};

struct Asked {
  std::string operator()(const NoSource &) const { return ""; }
  std::string operator()(const FileSource &source) const { return " " + source.path; }
  std::string operator()(const DnsSource &source) const {
    return " " + source.name + " (" + std::string(record_name(source.record)) + ")";
  }
  std::string operator()(const EtcdSource &source) const { return " " + source.prefix; }
  std::string operator()(const ConsulSource &source) const { return " " + source.service; }
  std::string operator()(const RegistrationSource &) const { return ""; }
};

}  // namespace

std::string_view source_kind_name(const SourceKind &kind) { return std::visit(KindName(), kind); }

std::string source_text(const SourceKind &kind) {
  return std::string(source_kind_name(kind)) + std::visit(Asked(), kind);
}

}  // namespace sluice::model
