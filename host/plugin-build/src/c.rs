//! Builds plugins in C, C++ and Zig: `zig cc` or a clang with a WASI library makes a core module, which is then wrapped
//! as a component.
//!
//! The SDK is compiled with each plugin: it is a few small files, so only the compiler must be installed. It implements
//! the contract by hand and answers all system calls, so the component imports nothing else. `plugin.toml` is the only
//! build description; users who need more build a `.wasm` file with their own tools.

mod manifest;

mod toolchain;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::contract::component_of;
use super::{PluginBuildError, Project, Tools};
use manifest::{CheckedManifest, Dialect};
use toolchain::CCompiler;

/// Flags of every compilation. The SDK is inlined into the plugin's code: a function call costs more here than what
/// most functions do.
const TARGET: [&str; 5] = [
    "-O2",
    "-flto",
    "-mexec-model=reactor",
    "-fno-exceptions",
    "-s",
];
const WARNINGS: [&str; 3] = ["-Wall", "-Wextra", "-Wno-missing-field-initializers"];

pub(super) fn project(folder: &Path) -> Result<Project, PluginBuildError> {
    let plugin = CheckedManifest::read(folder)?;
    Ok(Project {
        folder: folder.to_path_buf(),
        name: plugin.name.clone(),
        elsewhere: plugin.elsewhere(folder),
        programs: &toolchain::PROGRAMS,
    })
}

pub(super) fn tools(folder: &Path) -> Result<Tools, PluginBuildError> {
    toolchain::find(folder)
}

pub(super) fn build(project: &Project, tools: &Tools, out: &Path) -> Result<(), PluginBuildError> {
    let plugin = CheckedManifest::read(&project.folder)?;
    let build = Build {
        folder: project.folder.canonicalize().map_err(unusable(project))?,
        objects: project.build_dir().join("objects"),
        compiler: CCompiler::of(tools),
        plugin,
    };
    // Objects of removed sources must not be linked.
    match fs::remove_dir_all(&build.objects) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(unusable(project)(error));
        }
        _ => fs::create_dir_all(&build.objects).map_err(unusable(project))?,
    }
    let module = build.link(&build.objects()?)?;
    let module = fs::read(module).map_err(unusable(project))?;
    let not_a_plugin = |reason| PluginBuildError::NotAPlugin {
        path: project.folder.clone(),
        reason: explained(reason),
    };
    let component = component_of(module, &[]).map_err(not_a_plugin)?;
    fs::write(out, component).map_err(unusable(project))
}

/// Explains the error about imports that the contract does not have, and suggests a fix.
fn explained(reason: String) -> String {
    if reason.contains("wasi_snapshot_preview1") {
        return format!(
            "it makes system calls without the C library, and plugins have no system calls ({reason}); in Zig, avoid `std.debug`, `std.fs`, \
             `std.Io` and similar modules, and print with `fm_log`"
        );
    }
    reason
}

fn unusable(project: &Project) -> impl Fn(io::Error) -> PluginBuildError {
    let path = project.folder.clone();
    move |source| PluginBuildError::Folder {
        path: path.clone(),
        source,
    }
}

/// One build of one plugin.
struct Build {
    folder: PathBuf,
    objects: PathBuf,
    compiler: CCompiler,
    plugin: CheckedManifest,
}

impl Build {
    /// Compiles the plugin's own sources, each by itself: flags for one dialect may be errors in another.
    fn objects(&self) -> Result<Vec<PathBuf>, PluginBuildError> {
        let mut objects = Vec::new();
        for (index, source) in self.plugin.sources.iter().enumerate() {
            let object = self.object(&format!("{index}.o"))?;
            match source.dialect {
                Dialect::Zig => self.compile_zig(&source.path, &object)?,
                dialect => {
                    let mut command = self.compiler.command(dialect, &self.folder);
                    command.args(TARGET).args(WARNINGS).arg("-c");
                    command.args(self.includes()).args(self.replaced());
                    command.args(self.plugin.defines()).args(&self.plugin.flags);
                    command.arg(&source.path).arg("-o").arg(&object);
                    self.run(&mut command)?;
                }
            }
            objects.push(object);
        }
        Ok(objects)
    }

    /// An absolute path: tools run in the folder of the plugin.
    fn object(&self, name: &str) -> Result<PathBuf, PluginBuildError> {
        std::path::absolute(self.objects.join(name)).map_err(|source| PluginBuildError::Folder {
            path: self.objects.clone(),
            source,
        })
    }

    fn includes(&self) -> Vec<String> {
        let sdk = self.plugin.sdk.join("include");
        let all = std::iter::once(&sdk).chain(&self.plugin.include);
        all.map(|path| format!("-I{}", path.display())).collect()
    }

    /// Keeps folders of this machine out of the component, such as those in `__FILE__`.
    fn replaced(&self) -> [String; 2] {
        let replaced = [(&self.folder, "/plugin"), (&self.plugin.sdk, "/sdk")];
        replaced.map(|(from, to)| format!("-ffile-prefix-map={}={to}", from.display()))
    }

    /// Zig gets the header as a module, for `@import("floodmark")`.
    fn compile_zig(&self, source: &Path, object: &Path) -> Result<(), PluginBuildError> {
        if !self.compiler.knows_zig() {
            return Err(toolchain::missing(&self.folder, "a source is in Zig"));
        }
        let translated = self.object("floodmark.zig")?;
        if !translated.is_file() {
            let header = self.plugin.sdk.join("include/floodmark.h");
            let mut command = self.compiler.zig("translate-c", &self.folder);
            let output = command
                .args(["-lc", "-DFM_FOR_ZIG"])
                .args(self.plugin.defines())
                .arg(header)
                .stderr(Stdio::inherit())
                .output();
            let output = output.map_err(|source| self.unusable(source))?;
            if !output.status.success() {
                return Err(self.failed(output.status));
            }
            fs::write(&translated, output.stdout).map_err(|source| self.unusable(source))?;
        }
        let mut command = self.compiler.zig("build-obj", &self.folder);
        command.args(["-O", "ReleaseSafe", "-lc", "--dep", "floodmark"]);
        command.arg(format!("-Mroot={}", source.display()));
        command.arg(format!("-Mfloodmark={}", translated.display()));
        command.arg(format!("-femit-bin={}", object.display()));
        self.run(&mut command)
    }

    /// Links the objects with the SDK, which is compiled as C, no matter which language the plugin is in.
    fn link(&self, objects: &[PathBuf]) -> Result<PathBuf, PluginBuildError> {
        let module = self.object("module.wasm")?;
        let has_cpp = |source: &manifest::SourceFile| source.dialect == Dialect::Cpp;
        let dialect = match self.plugin.sources.iter().any(has_cpp) {
            true => Dialect::Cpp,
            false => Dialect::C,
        };
        let mut command = self.compiler.command(dialect, &self.folder);
        command.args(TARGET).args(self.includes());
        command.args(self.replaced()).args(objects);
        command.args(self.plugin.defines()).args(["-x", "c"]);
        command.args(&self.plugin.sdk_sources);
        command.arg("-o").arg(&module);
        self.run(&mut command)?;
        Ok(module)
    }

    fn run(&self, command: &mut Command) -> Result<(), PluginBuildError> {
        // Standard output is for results, so the compiler's output goes to standard error.
        let status = command
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .status();
        let status = status.map_err(|source| self.unusable(source))?;
        match status.success() {
            true => Ok(()),
            false => Err(self.failed(status)),
        }
    }

    fn failed(&self, status: std::process::ExitStatus) -> PluginBuildError {
        PluginBuildError::Failed {
            path: self.folder.clone(),
            status,
        }
    }

    fn unusable(&self, source: io::Error) -> PluginBuildError {
        PluginBuildError::Folder {
            path: self.folder.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    //! Catches sources of one of the languages that do not become a plugin.

    use super::super::tool::or_skip;
    use super::*;

    const C: &str = "#include <floodmark.h>\n\
        static void process(const fm_record *record, fm_output *out) { fm_emit(out, record->value); }\n\
        const fm_operator floodmark_operator = {.process = process};\n";

    const ZIG: &str = "const fm = @import(\"floodmark\");\n\
        fn process(record: [*c]const fm.fm_record, out: ?*fm.fm_output) callconv(.c) void {\n\
        fm.fm_emit(out, record.*.value);\n}\n\
        export const floodmark_operator: fm.fm_operator = .{ .process = process };\n";

    fn project_in(folder: &Path, source: &str, text: &str, more: &str) {
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest-sdk/c");
        let manifest = format!(
            "[plugin]\nname = \"demo\"\nversion = \"0.1.0\"\nsources = [\"{source}\"]\nsdk = {:?}\n{more}\n",
            sdk.display().to_string()
        );
        fs::write(folder.join("plugin.toml"), manifest).unwrap();
        fs::write(folder.join(source), text).unwrap();
    }

    /// `None` if the tools are missing.
    fn built(source: &str, text: &str, more: &str) -> Option<Result<Vec<u8>, PluginBuildError>> {
        let tools = or_skip(tools(Path::new(".")))?;
        Some(built_with(&tools, source, text, more))
    }

    fn built_with(
        tools: &Tools,
        source: &str,
        text: &str,
        more: &str,
    ) -> Result<Vec<u8>, PluginBuildError> {
        let folder = tempfile::tempdir().unwrap();
        project_in(folder.path(), source, text, more);
        let project = project(folder.path())?;
        assert_eq!(project.name, "demo");
        let out = folder.path().join("out.wasm");
        build(&project, tools, &out)?;
        Ok(fs::read(out).unwrap())
    }

    fn check(source: &str, text: &str, expected: Result<(), &str>) {
        check_with(source, text, "", expected);
    }

    fn check_with(source: &str, text: &str, more: &str, expected: Result<(), &str>) {
        let Some(result) = built(source, text, more) else {
            return;
        };
        match (result, expected) {
            (Ok(component), Ok(())) => {
                assert_eq!(
                    &component[..8],
                    b"\0asm\x0d\0\x01\0",
                    "a component, not a module"
                );
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (result, expected) => {
                panic!("{source}: {:?} instead of {expected:?}", result.map(drop))
            }
        }
    }

    #[test]
    fn c_becomes_a_component() {
        check("demo.c", C, Ok(()));
        check(
            "demo.c",
            "#error meant",
            Err("the compiler's messages are above"),
        );
    }

    #[test]
    fn cpp_becomes_a_component() {
        let cpp = "#include <floodmark.h>\n#include <string>\n\
            static void process(const fm_record *record, fm_output *out) {\n\
            std::string text(fm_string_view(record->value)); text += text;\n\
            fm_emit(out, fm_view(text));\n}\n\
            const fm_operator floodmark_operator = {.process = process};\n";
        check("demo.cpp", cpp, Ok(()));
    }

    #[test]
    fn what_is_not_read_cannot_be_read() {
        let refused = Err("the compiler's messages are above");
        check_with("demo.c", C, "unread = [\"timestamps\"]", Ok(()));
        check_with("demo.c", C, "unread = [\"values\"]", refused);
        check_with("demo.zig", ZIG, "unread = [\"timestamps\"]", Ok(()));
        check_with("demo.zig", ZIG, "unread = [\"values\"]", refused);
    }

    #[test]
    fn zig_becomes_a_component() {
        check("demo.zig", ZIG, Ok(()));
    }
}
