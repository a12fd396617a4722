#include "controlplane/health/probes/tls_contexts.h"

#include <array>
#include <cerrno>
#include <ctime>
#include <system_error>
#include <utility>

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <spdlog/fmt/fmt.h>
#include <sys/stat.h>

#include "controlplane/health/probes/small_file.h"
#include "controlplane/model/address_text.h"

namespace sluice {

namespace {

constexpr int64_t kSecondsPerDay = 86400;
constexpr size_t kMaxFileKib = 4096;
constexpr std::chrono::hours kKeptUnused(1);
constexpr std::chrono::seconds kErrorKept(10);  // then what this host was short of may be there

std::string options_text(const model::TlsOptions &options) {
  return fmt::format("{}\n{}\n{}\n{}\n{}", options.verify ? 1 : 0, options.ca_file, options.certificate_file,
                     options.key_file, static_cast<int>(options.min_version));
}

// When each file was changed, its mode too: another text when one of them was.
std::string file_times(const model::TlsOptions &options) {
  std::string times;
  for (const std::string *file : {&options.ca_file, &options.certificate_file, &options.key_file}) {
    if (file->empty()) continue;
    struct stat status {};
    const int found = ::stat(file->c_str(), &status);
    times += found == 0
                 ? fmt::format("{}.{}.{} ", status.st_ino, status.st_ctim.tv_sec, status.st_ctim.tv_nsec)
                 : "none ";
  }
  return times;
}

std::string last_error_text() {
  const unsigned long error = ERR_get_error();
  ERR_clear_error();
  if (ERR_SYSTEM_ERROR(error)) return std::generic_category().message(ERR_GET_REASON(error));
  const char *reason = ERR_reason_error_string(error);
  return reason == nullptr ? "unknown error" : reason;
}

Error file_error(const char *what, const std::string &file) {
  return Error{fmt::format("{} {}: {}", what, file, last_error_text())};
}

// OpenSSL would wait for a pipe's writer, and read a device for ever.
Status check_files(const model::TlsOptions &options) {
  const std::array<std::pair<const char *, const std::string *>, 3> files = {
      {{"ca_file", &options.ca_file},
       {"certificate_file", &options.certificate_file},
       {"key_file", &options.key_file}}};
  for (const auto &[what, file] : files) {
    if (file->empty()) continue;
    const Status status = check_small_file(*file, kMaxFileKib);
    if (!status.ok()) return Error{fmt::format("{} {}: {}", what, *file, status.error().message)};
  }
  return Done{};
}

Status load_files(SSL_CTX *context, const model::TlsOptions &options) {
  const Status checked = check_files(options);
  if (!checked.ok()) return checked.error();
  ERR_clear_error();
  if (!options.ca_file.empty()) {
    if (SSL_CTX_load_verify_locations(context, options.ca_file.c_str(), nullptr) != 1) {
      return file_error("ca_file", options.ca_file);
    }
  } else if (options.verify) {
    SSL_CTX_set_default_verify_paths(context);
  }
  if (options.certificate_file.empty()) return Done{};
  if (SSL_CTX_use_certificate_chain_file(context, options.certificate_file.c_str()) != 1) {
    return file_error("certificate_file", options.certificate_file);
  }
  if (SSL_CTX_use_PrivateKey_file(context, options.key_file.c_str(), SSL_FILETYPE_PEM) != 1) {
    return file_error("key_file", options.key_file);
  }
  return Done{};
}

// Where a connection, or a context of one connection, keeps its TlsExpectation.
int ssl_index() {
  static const int index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}

int context_index() {
  static const int index = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}

TlsExpectation *expectation_of(const SSL *ssl) {
  void *own = SSL_get_ex_data(ssl, ssl_index());
  if (own == nullptr) own = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), context_index());
  return static_cast<TlsExpectation *>(own);
}

int64_t seconds_left(const X509 *certificate) {
  int days = 0;
  int seconds = 0;
  if (ASN1_TIME_diff(&days, &seconds, nullptr, X509_get0_notAfter(certificate)) != 1) return 0;
  return days * kSecondsPerDay + seconds;
}

std::string verdict_text(int verdict, const TlsExpectation &expectation) {
  switch (verdict) {
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
      return "certificate is not for " + expectation.name;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
      return "certificate is of an unknown authority";
    default:
      return X509_verify_cert_error_string(verdict);
  }
}

// After OpenSSL's own verdict on each certificate of the chain, whose words are ours: the server's must be
// valid for long enough.
int verify_certificate(int verified, X509_STORE_CTX *store) {
  const auto *ssl =
      static_cast<const SSL *>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
  TlsExpectation *expectation = expectation_of(ssl);
  if (expectation == nullptr || !expectation->options->verify) return verified;  // OpenSSL asks even then
  if (verified != 1) expectation->failure = verdict_text(X509_STORE_CTX_get_error(store), *expectation);
  if (verified != 1 || X509_STORE_CTX_get_error_depth(store) != 0) return verified;
  const std::chrono::seconds left(seconds_left(X509_STORE_CTX_get_current_cert(store)));
  const std::chrono::hours wanted = expectation->options->min_validity;
  if (left >= wanted) return verified;
  expectation->failure =
      fmt::format("certificate ends in {}h, {}h wanted", left / std::chrono::hours(1), wanted.count());
  X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
  return 0;
}

void expect_name(X509_VERIFY_PARAM *param, TlsExpectation *expectation, const Address &address) {
  const model::TlsOptions &options = *expectation->options;
  expectation->name = options.server_name.empty() ? format_address(address) : options.server_name;
  if (!options.server_name.empty()) {
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    X509_VERIFY_PARAM_set1_host(param, options.server_name.c_str(), 0);
    return;
  }
  const bool ipv4 = address_is_ipv4(&address);
  const auto *bytes = reinterpret_cast<const unsigned char *>(ipv4 ? &address.word[3] : &address.word[0]);
  X509_VERIFY_PARAM_set1_ip(param, bytes, ipv4 ? 4 : 16);
}

// OpenSSL asks for the client's certificate when the server does. The context's is it.
int on_certificate_asked(SSL * /*ssl*/, void *user) {
  static_cast<TlsExpectation *>(user)->asked_for_certificate = true;
  return 1;
}

void on_event(const SSL *ssl, int event, int alert) {
  TlsExpectation *expectation = expectation_of(ssl);
  if (event != SSL_CB_READ_ALERT || alert >> 8 != SSL3_AL_FATAL || expectation == nullptr) return;
  expectation->alert = ERR_PACK(ERR_LIB_SSL, 0, SSL_AD_REASON_OFFSET + (alert & 0xff));
}

int min_protocol(const model::TlsOptions &options) {
  return options.min_version == model::TlsVersion::kTls13 ? TLS1_3_VERSION : TLS1_2_VERSION;
}

void set_policy(SSL_CTX *context, const model::TlsOptions &options) {
  SSL_CTX_set_min_proto_version(context, min_protocol(options));
  SSL_CTX_set_verify(context, options.verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, verify_certificate);
}

TlsContexts::Made make(const model::TlsOptions &options) {
  SSL_CTX *made = SSL_CTX_new(TLS_client_method());
  if (made == nullptr) return Error{"TLS: " + last_error_text()};
  auto context = std::make_shared<boost::asio::ssl::context>(made);  // owns it
  set_policy(made, options);
  const Status loaded = load_files(made, options);
  if (!loaded.ok()) return loaded.error();
  return context;
}

}  // namespace

void TlsContexts::drop_unused(Clock::time_point now) {
  if (now - dropped_at_ < kKeptUnused) return;
  std::erase_if(kept_, [now](const auto &each) { return now - each.second.used_at >= kKeptUnused; });
  dropped_at_ = now;
}

TlsContexts::Made TlsContexts::get(const model::TlsOptions &options, Clock::time_point now) {
  drop_unused(now);
  const std::string times = file_times(options);
  std::string name = options_text(options);
  const auto found = kept_.find(name);
  if (found != kept_.end() && found->second.file_times == times) {
    Kept &kept = found->second;
    kept.used_at = now;
    if (kept.made.ok() || now - kept.made_at < kErrorKept) return kept.made;
  }
  Made made = make(options);
  kept_.insert_or_assign(std::move(name), Kept{times, made, now, now});
  return made;
}

void expect_certificate(SSL *ssl, TlsExpectation *expectation, const Address &address) {
  SSL_set_ex_data(ssl, ssl_index(), expectation);
  const model::TlsOptions &options = *expectation->options;
  if (!options.server_name.empty()) SSL_set_tlsext_host_name(ssl, options.server_name.c_str());
  SSL_set_info_callback(ssl, on_event);
  SSL_set_cert_cb(ssl, on_certificate_asked, expectation);
  expect_name(SSL_get0_param(ssl), expectation, address);
}

void expect_certificate(SSL_CTX *theirs, SSL_CTX *ours, TlsExpectation *expectation, const Address &address) {
  SSL_CTX_set_ex_data(theirs, context_index(), expectation);
  SSL_CTX_set1_cert_store(theirs, SSL_CTX_get_cert_store(ours));
  if (X509 *certificate = SSL_CTX_get0_certificate(ours)) {
    STACK_OF(X509) *chain = nullptr;
    SSL_CTX_get0_chain_certs(ours, &chain);
    SSL_CTX_use_cert_and_key(theirs, certificate, SSL_CTX_get0_privatekey(ours), chain, 1);
  }
  SSL_CTX_set_cert_cb(theirs, on_certificate_asked, expectation);
  set_policy(theirs, *expectation->options);
  expect_name(SSL_CTX_get0_param(theirs), expectation, address);
}

std::string tls_failure_text(const TlsExpectation &expectation, unsigned long error) {
  if (!expectation.failure.empty()) return expectation.failure;
  const char *reason = ERR_reason_error_string(error);
  return fmt::format("TLS handshake failed: {}", reason == nullptr ? "connection closed" : reason);
}

}  // namespace sluice
