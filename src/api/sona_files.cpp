// Taking what was learned from one machine to another: a folder of files, verified before use.
#include <utility>

#include "api/sona_parts.h"
#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"
#include "sona/agent_import.h"
#include "sona/bank_checks.h"

namespace ruvltra {
namespace {

constexpr uint64_t kMaxManifestBytes = 1 << 20;
constexpr uint64_t kMaxExportBytes = uint64_t{4} << 30;
constexpr std::string_view kFormat = "ruvltra-sona";
constexpr const char* kManifest = "manifest.json";
constexpr const char* kRecords = "bank.jsonl";
constexpr const char* kAgents = "agents.json";
constexpr const char* kAdapter = "adapter.rvc1";

std::span<const uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// Writes a file piece by piece and knows its digest.
class HashedFile {
 public:
  static Result<HashedFile> create(const std::filesystem::path& path) {
    ASSIGN_OR_RETURN(OutputFile file, OutputFile::create(path, false));
    return HashedFile(path, std::move(file));
  }
  Result<void> write(std::string_view text) {
    hash_.update(bytes_of(text));
    n_bytes_ += text.size();
    return file_.write(bytes_of(text));
  }
  // Makes it visible; its entry of the manifest.
  Result<Json> finish() {
    RETURN_IF_ERROR(file_.commit());
    std::error_code ignored;  // it holds what people wrote: nobody else's business
    std::filesystem::permissions(
        path_, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write, ignored);
    return Json{{"sha256", to_hex(hash_.finish())}, {"bytes", n_bytes_}};
  }

 private:
  HashedFile(std::filesystem::path path, OutputFile file) : path_(std::move(path)), file_(std::move(file)) {}
  std::filesystem::path path_;
  OutputFile file_;
  Sha256 hash_;
  uint64_t n_bytes_ = 0;
};

template <class... Args>
tl::unexpected<Error> bad_manifest(const std::filesystem::path& file, fmt::format_string<Args...> format,
                                   Args&&... args) {
  return fail(ErrorKind::kInput, "sona.manifest", "{}: {}", file.string(),
              fmt::format(format, std::forward<Args>(args)...));
}

Result<std::string> field(const Json& object, const char* name, const std::filesystem::path& file) {
  if (!object.is_object() || !object.contains(name) || !object[name].is_string())
    return bad_manifest(file, "expected the text \"{}\", found none", name);
  return object[name].get<std::string>();
}

// A file of the folder whose digest is the manifest's.
Result<std::string> verified(const std::filesystem::path& folder, const char* name, const Json& manifest) {
  const auto file = folder / name;
  const auto manifest_file = folder / kManifest;
  if (!manifest.contains("files") || !manifest["files"].is_object() || !manifest["files"].contains(name))
    return bad_manifest(manifest_file, "expected an entry for {}, found none", name);
  ASSIGN_OR_RETURN(const std::string expected, field(manifest["files"][name], "sha256", manifest_file));
  ASSIGN_OR_RETURN(std::string text, read_text_file(file, kMaxExportBytes));
  const std::string found = to_hex(sha256(bytes_of(text)));
  if (found != expected) {
    return fail(ErrorKind::kInput, "sona.hash", "{}: expected SHA-256 {}, found {}", file.string(), expected,
                found);
  }
  return text;
}

}  // namespace

Result<void> Sona::export_to(const std::filesystem::path& folder, const std::optional<std::string>& tenant) {
  flush();
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error)
    return fail(ErrorKind::kIo, "file.create", "{}: could not be made: {}", folder.string(), error.message());
  if (std::filesystem::exists(folder / kManifest, error)) {
    return fail(ErrorKind::kUsage, "file.exists", "{}: expected a folder without an export, found one",
                folder.string());
  }
  const SonaParts& p = *parts_;
  Json files;
  ASSIGN_OR_RETURN(HashedFile records, HashedFile::create(folder / kRecords));
  const auto write_line = [&](std::string_view line) -> Result<void> {
    RETURN_IF_ERROR(records.write(line));
    return line.ends_with('\n') ? Result<void>() : records.write("\n");
  };
  RETURN_IF_ERROR(p.store->export_jsonl(tenant.value_or(""), write_line));
  ASSIGN_OR_RETURN(files[kRecords], records.finish());
  ASSIGN_OR_RETURN(HashedFile agents, HashedFile::create(folder / kAgents));
  RETURN_IF_ERROR(agents.write(to_json(p.router->registry().json()) + "\n"));
  ASSIGN_OR_RETURN(files[kAgents], agents.finish());

  // Learned weights belong to a tenant: of all, "local" is who a machine of one's own works for.
  const Scope owner{.tenant = tenant.value_or(Scope().tenant), .session = {}};
  if (p.learner && !p.learner->live(owner).adapter->is_zero()) {
    RETURN_IF_ERROR(export_adapter(folder / kAdapter, owner));
    ASSIGN_OR_RETURN(const auto bytes, read_file(folder / kAdapter, kMaxExportBytes));
    files[kAdapter] = Json{{"sha256", to_hex(sha256(bytes))}, {"bytes", bytes.size()}};
  }

  Json manifest;
  manifest["format"] = kFormat;
  manifest["version"] = 1;
  manifest["model_sha256"] = to_hex(p.model->weights.file_digest);
  manifest["model"] = p.model->name;
  manifest["space"] = fmt::format("{:016x}", p.embedder->space());
  manifest["hooks"] = p.hooks;
  manifest["created_us"] = now_us();
  manifest["files"] = files;
  // Last: a folder without a manifest is no export.
  ASSIGN_OR_RETURN(HashedFile file, HashedFile::create(folder / kManifest));
  RETURN_IF_ERROR(file.write(to_json(manifest) + "\n"));
  return file.finish().map([](const auto&) {});
}

Result<ImportReport> Sona::import_from(const std::filesystem::path& folder, const Scope& scope) {
  RETURN_IF_ERROR(check_scope(scope));
  const auto manifest_file = folder / kManifest;
  ASSIGN_OR_RETURN(const std::string text, read_text_file(manifest_file, kMaxManifestBytes));
  ASSIGN_OR_RETURN(const Json manifest, parse_json(text, manifest_file.string()));
  ASSIGN_OR_RETURN(const std::string format, field(manifest, "format", manifest_file));
  if (format != kFormat || !manifest.contains("version") || manifest["version"] != 1)
    return bad_manifest(manifest_file, "expected format {}, version 1, found another", kFormat);
  ASSIGN_OR_RETURN(const std::string model, field(manifest, "model_sha256", manifest_file));
  const std::string own = to_hex(parts_->model->weights.file_digest);
  if (model != own) {
    return fail(ErrorKind::kInput, "sona.model", "{}: expected what model {} learned, found that of {}",
                manifest_file.string(), own, model);
  }
  ASSIGN_OR_RETURN(const std::string records, verified(folder, kRecords, manifest));
  ASSIGN_OR_RETURN(const std::string agents, verified(folder, kAgents, manifest));
  ASSIGN_OR_RETURN(AgentRegistry registry, AgentRegistry::parse(agents, (folder / kAgents).string()));

  ImportReport report;
  const bool has_adapter = manifest["files"].contains(kAdapter);
  if (has_adapter) {
    RETURN_IF_ERROR(verified(folder, kAdapter, manifest));
    if (!parts_->learner) {
      return fail(ErrorKind::kUsage, "learning.disabled",
                  "{}: expected learning to be on for the learned weights, found it off",
                  (folder / kAdapter).string());
    }
    // First: the gates may refuse it, and then nothing is taken.
    ASSIGN_OR_RETURN(const GenerationInfo live, import_adapter(folder / kAdapter, {scope.tenant, {}}));
    report.generation = live.number;
  }
  auto n_records = parts_->store->import_jsonl(records, scope.tenant);
  if (!n_records) {
    n_records.error().message =
        fmt::format("{}: {}", (folder / kRecords).string(), n_records.error().message);
    return tl::unexpected<Error>(std::move(n_records.error()));
  }
  report.n_records = *n_records;
  report.n_agents = registry.agents().size();
  RETURN_IF_ERROR(parts_->router->set_registry(std::move(registry)));
  RETURN_IF_ERROR(parts_->router->forget(scope.tenant));  // read again, with what came
  RETURN_IF_ERROR(parts_->router->train_head({scope.tenant, {}}));
  RETURN_IF_ERROR(parts_->bank->reload());
  return report;
}

}  // namespace ruvltra
