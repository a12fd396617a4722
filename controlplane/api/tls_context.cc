#include "controlplane/api/tls_context.h"

#include <system_error>
#include <utility>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include "controlplane/health/probes/small_file.h"

namespace sluice::api {

namespace {

constexpr size_t kMaxFileKib = 4096;
constexpr const char *kCiphers12 = "ECDHE+AESGCM:ECDHE+CHACHA20";  // of TLS 1.2; all of 1.3's are good
constexpr unsigned char kAlpn[] = "\x08http/1.1";

std::string last_error_text() {
  const unsigned long error = ERR_get_error();
  ERR_clear_error();
  if (ERR_SYSTEM_ERROR(error)) return std::generic_category().message(ERR_GET_REASON(error));
  const char *reason = ERR_reason_error_string(error);
  return reason == nullptr ? "it has nothing of the kind" : reason;
}

Error file_error(const char *field, const std::string &file, const std::string &why) {
  return Error{fmt::format("api.{}: {}: {}", field, file, why)};
}

// Who can read the key can be this host.
Status check_key_mode(const std::string &file) {
  struct stat status {};
  if (::stat(file.c_str(), &status) != 0 || (status.st_mode & S_IRWXO) == 0) return Done{};
  return Error{"everybody may read or write it; chmod o-rwx"};
}

Status check_files(const model::ApiSpec &spec) {
  const std::pair<const char *, const std::string *> files[] = {
      {"certificate", &spec.certificate_file}, {"key", &spec.key_file}, {"client_ca", &spec.client_ca_file}};
  for (const auto &[field, file] : files) {
    if (file->empty()) continue;
    const Status checked = check_small_file(*file, kMaxFileKib);
    if (!checked.ok()) return file_error(field, *file, checked.error().message);
  }
  const Status mode = check_key_mode(spec.key_file);
  return mode.ok() ? mode : file_error("key", spec.key_file, mode.error().message);
}

Status load_files(SSL_CTX *context, const model::ApiSpec &spec) {
  ERR_clear_error();
  if (SSL_CTX_use_certificate_chain_file(context, spec.certificate_file.c_str()) != 1)
    return file_error("certificate", spec.certificate_file, last_error_text());
  if (SSL_CTX_use_PrivateKey_file(context, spec.key_file.c_str(), SSL_FILETYPE_PEM) != 1)
    return file_error("key", spec.key_file, last_error_text());
  if (SSL_CTX_check_private_key(context) != 1)
    return file_error("key", spec.key_file, "is not the certificate's: " + last_error_text());
  if (spec.client_ca_file.empty()) return Done{};
  STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(spec.client_ca_file.c_str());
  if (names == nullptr || SSL_CTX_load_verify_file(context, spec.client_ca_file.c_str()) != 1) {
    sk_X509_NAME_pop_free(names, X509_NAME_free);
    return file_error("client_ca", spec.client_ca_file, last_error_text());
  }
  SSL_CTX_set_client_CA_list(context, names);  // owns it
  // Without one a client may have a token: the gate decides.
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  return Done{};
}

int choose_protocol(SSL * /*ssl*/, const unsigned char **chosen, unsigned char *chosen_size,
                    const unsigned char *offered, unsigned offered_size, void * /*user*/) {
  unsigned char *found = nullptr;
  const int agreed =
      SSL_select_next_proto(&found, chosen_size, kAlpn, sizeof(kAlpn) - 1, offered, offered_size);
  *chosen = found;
  return agreed == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

// No resumption: a session would outlive the authority, or the certificate, that it was begun with.
void set_policy(SSL_CTX *context, const model::ApiSpec &spec) {
  SSL_CTX_set_min_proto_version(
      context, spec.min_tls_version == model::TlsVersion::kTls13 ? TLS1_3_VERSION : TLS1_2_VERSION);
  SSL_CTX_set_cipher_list(context, kCiphers12);
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context, 0);
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_alpn_select_cb(context, choose_protocol, nullptr);
}

void warn_of_age(SSL_CTX *context, const std::string &file) {
  const X509 *certificate = SSL_CTX_get0_certificate(context);
  if (X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0)
    spdlog::warn("api.certificate: {}: has expired; clients will refuse it", file);
}

std::string asn1_text(const ASN1_STRING *string) {
  unsigned char *utf8 = nullptr;
  const int size = ASN1_STRING_to_UTF8(&utf8, string);
  if (size < 0) return "";
  std::string text(reinterpret_cast<const char *>(utf8), static_cast<size_t>(size));
  OPENSSL_free(utf8);
  return text;
}

void add_common_names(const X509 *certificate, std::vector<std::string> *names) {
  const X509_NAME *subject = X509_get_subject_name(certificate);
  for (int i = -1; (i = X509_NAME_get_index_by_NID(subject, NID_commonName, i)) >= 0;)
    names->push_back(asn1_text(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, i))));
}

void add_alternative_names(const X509 *certificate, std::vector<std::string> *names) {
  auto *found =
      static_cast<GENERAL_NAMES *>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; i < sk_GENERAL_NAME_num(found); i++) {
    int type = 0;
    const void *value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(found, i), &type);
    if (type == GEN_DNS || type == GEN_EMAIL || type == GEN_URI)
      names->push_back(asn1_text(static_cast<const ASN1_STRING *>(value)));
  }
  GENERAL_NAMES_free(found);
}

}  // namespace

Result<TlsContext> make_tls_context(const model::ApiSpec &spec) {
  if (const Status checked = check_files(spec); !checked.ok()) return checked.error();
  SSL_CTX *made = SSL_CTX_new(TLS_server_method());
  if (made == nullptr) return Error{"TLS: " + last_error_text()};
  auto context = std::make_shared<boost::asio::ssl::context>(made);  // owns it
  set_policy(made, spec);
  if (const Status loaded = load_files(made, spec); !loaded.ok()) return loaded.error();
  warn_of_age(made, spec.certificate_file);
  return context;
}

std::vector<std::string> certificate_names(SSL *ssl) {
  std::vector<std::string> names;
  const X509 *certificate = SSL_get0_peer_certificate(ssl);
  if (certificate == nullptr || SSL_get_verify_result(ssl) != X509_V_OK) return names;
  add_common_names(certificate, &names);
  add_alternative_names(certificate, &names);
  std::erase(names, "");
  if (names.empty()) names.emplace_back("(a certificate without a name)");
  return names;
}

std::string handshake_failure(SSL *ssl, const boost::system::error_code &error) {
  const long verified = SSL_get_verify_result(ssl);
  if (verified != X509_V_OK)
    return fmt::format("the client's certificate: {}", X509_verify_cert_error_string(verified));
  return "TLS handshake: " + error.message();
}

}  // namespace sluice::api
