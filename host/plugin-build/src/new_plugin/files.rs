//! The files of the SDKs and of the first plugins, embedded in the command. A test compares the lists with the folders.

use crate::Language;

/// A file of a new project.
pub(super) struct TemplateFile {
    pub(super) path: &'static str,
    pub(super) bytes: &'static [u8],
}

/// The SDK of a language.
pub(super) struct Sdk {
    pub(super) language: Language,
    /// The folder of the copy in a project.
    pub(super) folder: &'static str,
    /// The folder of the SDK that is copied.
    #[cfg(test)]
    pub(super) source: &'static str,
    pub(super) files: &'static [TemplateFile],
    pub(super) template: &'static [TemplateFile],
}

macro_rules! files {
    ($folder:literal: $($path:literal)*) => {
        &[$(TemplateFile {
            path: $path,
            bytes: include_bytes!(concat!("../../../../guest-sdk/", $folder, "/", $path)),
        }),*]
    };
}

pub(super) const SDKS: [Sdk; 5] = [
    Sdk {
        language: Language::Rust,
        folder: "floodmark-sdk",
        #[cfg(test)]
        source: "",
        files: files!("rust": "Cargo.toml" "clippy.toml" "macros/Cargo.toml" "macros/src/attribute.rs" "macros/src/lib.rs" "macros/src/reads.rs" "src/bindings.rs" "src/columns.rs" "src/config.rs" "src/encoding.rs" "src/entries.rs" "src/error.rs" "src/export.rs" "src/lib.rs" "src/list.rs" "src/log.rs" "src/map.rs" "src/metrics.rs" "src/operator.rs" "src/output.rs" "src/plain.rs" "src/reads.rs" "src/record_by_record.rs" "src/reducing.rs" "src/short.rs" "src/states.rs" "src/sub_key.rs" "src/testing/compact.rs" "src/testing/disposable.rs" "src/testing/host.rs" "src/testing/kept.rs" "src/testing/mod.rs" "src/value.rs"),
        template: files!("rust/template": "Cargo.toml" "README.md" "gitignore" "src/lib.rs" "vectors.toml"),
    },
    Sdk {
        language: Language::Go,
        folder: "floodmark-sdk",
        #[cfg(test)]
        source: "",
        files: files!("go": "README.md" "config.go" "decimal.go" "default.pgo" "dump.go" "encoding.go" "entries.go" "exports_wasip1.go" "failure.go" "go.mod" "imports_wasip1.go" "internal/contract/columns.go" "internal/contract/contract.go" "internal/contract/plain.go" "list.go" "log.go" "map.go" "memory_wasip1.go" "metrics.go" "migrate.go" "numbers.go" "operator.go" "output.go" "plugin.go" "register.go" "sdk.go" "sdktest/host.go" "sdktest/kept.go" "sdktest/task.go" "states.go" "subkey.go" "value.go"),
        template: files!("go/template": "README.md" "gitignore" "go.mod" "main.go" "main_test.go" "vectors.toml"),
    },
    Sdk {
        language: Language::Python,
        folder: "floodmark",
        #[cfg(test)]
        source: "floodmark",
        files: files!("python/floodmark": "__init__.py" "columns.py" "component.py" "config.py" "encoding.py" "error.py" "host.py" "instance.py" "list.py" "log.py" "map.py" "metrics.py" "operator.py" "output.py" "packed.py" "plain.py" "py.typed" "record.py" "state.py" "sub_key.py" "testing.py" "unread.py" "value.py"),
        template: files!("python/template": "README.md" "gitignore" "plugin.py" "pyproject.toml" "test_plugin.py" "vectors.toml"),
    },
    Sdk {
        language: Language::JavaScript,
        folder: "floodmark-sdk",
        #[cfg(test)]
        source: "",
        files: files!("javascript": "README.md" "package.json" "src/bytes.ts" "src/close-world.ts" "src/closed.ts" "src/config.ts" "src/encoding.ts" "src/entry.ts" "src/host.ts" "src/index.ts" "src/kept.ts" "src/list.ts" "src/map.ts" "src/operator.ts" "src/output.ts" "src/packed.ts" "src/place.ts" "src/plain.ts" "src/plugin.ts" "src/report.ts" "src/state.ts" "src/task.ts" "src/varints.ts" "testing.ts" "tsconfig.json"),
        template: files!("javascript/template": "README.md" "gitignore" "package.json" "src/index.ts" "test/counter.test.ts" "tsconfig.json" "vectors.toml"),
    },
    Sdk {
        language: Language::C,
        folder: "floodmark-sdk",
        #[cfg(test)]
        source: "",
        files: files!("c": "README.md" "include/floodmark.h" "src/contract.h" "src/encoding.c" "src/json.c" "src/list.c" "src/map.c" "src/memory.c" "src/operator.c" "src/output.c" "src/output.h" "src/plain.c" "src/value.c" "src/wasi.c" "src/wasm.c" "testing/floodmark_testing.c" "testing/floodmark_testing.h" "testing/kept.c" "testing/kept.h"),
        template: files!("c/template": "Makefile" "README.md" "gitignore" "plugin.toml" "src/{{name_snake}}.c" "tests/{{name_snake}}_test.c" "vectors.toml"),
    },
];
