//! Opens object stores by address (`file:///…` and `s3://…`), with credentials and retries.
//!
//! Credentials come from the environment variables that all tools for S3 use. Without them, only the machine's instance
//! metadata can provide credentials; this is tried for a short time, and then the error names the variables.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::client::ClientConfigKey;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};

use super::layout;
use super::private_folder::PrivateFolder;
use super::remote::Remote;
use super::{FOLDERS, ObjectSettings};
use crate::store::StoreError;

/// Longest wait for credentials from the instance metadata.
const PROBE: Duration = Duration::from_secs(2);
const CONNECT: Duration = Duration::from_secs(5);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

const CREDENTIALS: &str = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL as needed)";

/// Whether to create a missing storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Make {
    IfAbsent,
    Never,
}

/// An opened store, and its folder if it is one of files.
pub(super) struct OpenedRemote {
    pub remote: Remote,
    pub folder: Option<PathBuf>,
}

pub(super) fn open(
    url: &str,
    settings: ObjectSettings,
    make: Make,
) -> Result<OpenedRemote, StoreError> {
    if let Some(path) = url.strip_prefix("file://") {
        return open_folder(url, path, make);
    }
    if let Some(rest) = url.strip_prefix("s3://") {
        return open_bucket(url, rest, settings);
    }
    Err(unusable(
        url,
        "it begins with neither `file:///` nor `s3://`",
    ))
}

fn unusable(url: &str, reason: impl ToString) -> StoreError {
    StoreError::Unusable {
        path: url.into(),
        reason: reason.to_string(),
    }
}

fn open_folder(url: &str, path: &str, make: Make) -> Result<OpenedRemote, StoreError> {
    if !path.starts_with('/') {
        return Err(unusable(
            url,
            "a folder needs an absolute path after `file://`, as in `file:///var/checkpoints`",
        ));
    }
    // As in the pipeline file: a path, not percent-encoded.
    let folder = PathBuf::from(path);
    let failed = |source: io::Error| StoreError::Io {
        path: url.into(),
        source,
    };
    match make {
        Make::IfAbsent => create_folders(&folder).map_err(failed)?,
        Make::Never if !folder.join(layout::CHECKPOINTS).is_dir() => {
            return Err(StoreError::Absent { path: url.into() });
        }
        Make::Never => {}
    }
    let store = LocalFileSystem::new_with_prefix(&folder)
        .map_err(|error| unusable(url, error))?
        .with_fsync(true);
    Ok(OpenedRemote {
        remote: Remote::new(
            url,
            PrivateFolder::new(Arc::new(store), folder.clone()),
            Path::default(),
        )?,
        folder: Some(folder),
    })
}

/// Creates the folders of a storage, for this user alone.
fn create_folders(folder: &std::path::Path) -> io::Result<()> {
    let mut private = DirBuilder::new();
    private.recursive(true).mode(0o700);
    for part in FOLDERS {
        private.create(folder.join(part))?;
    }
    Ok(())
}

fn open_bucket(
    url: &str,
    rest: &str,
    settings: ObjectSettings,
) -> Result<OpenedRemote, StoreError> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(unusable(
            url,
            "it names no bucket; write `s3://bucket/prefix`",
        ));
    }
    let prefix = Path::parse(prefix).map_err(|error| unusable(url, error))?;
    let builder = AmazonS3Builder::from_env();
    let is_set = |key: &AmazonS3ConfigKey| builder.get_config_value(key).is_some();
    let endpoint = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint];
    let mut endpoint = endpoint
        .iter()
        .filter_map(|key| builder.get_config_value(key));
    let allow_http = AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp);
    if endpoint
        .next()
        .is_some_and(|endpoint| endpoint.starts_with("http://"))
        && builder.get_config_value(&allow_http).as_deref() != Some("true")
    {
        return Err(unusable(
            url,
            "AWS_ENDPOINT_URL is not encrypted; set AWS_ALLOW_HTTP=true to allow that",
        ));
    }
    let given = [
        AmazonS3ConfigKey::AccessKeyId,
        AmazonS3ConfigKey::SecretAccessKey,
        AmazonS3ConfigKey::WebIdentityTokenFile,
        AmazonS3ConfigKey::ContainerCredentialsRelativeUri,
        AmazonS3ConfigKey::ContainerCredentialsFullUri,
    ];
    let skip = builder.get_config_value(&AmazonS3ConfigKey::SkipSignature);
    let is_given = given.iter().any(is_set) || skip.as_deref() == Some("true");
    // The same provider may already be installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let remote = |give_up_after| {
        let store = bucket_store(builder.clone(), bucket, give_up_after)
            .map_err(|error| unusable(url, format!("{error}; {CREDENTIALS}")))?;
        Remote::new(url, store, prefix.clone())
    };
    if !is_given {
        let probed = remote(PROBE)?.list(layout::CHECKPOINTS);
        probed.map_err(|error| {
            let reason = match error {
                StoreError::Io { source, .. } => source.to_string(),
                other => other.to_string(),
            };
            unusable(
                url,
                format!("no credentials were found for it ({reason}); {CREDENTIALS}"),
            )
        })?;
    }
    Ok(OpenedRemote {
        remote: remote(settings.give_up_after)?,
        folder: None,
    })
}

fn bucket_store(
    builder: AmazonS3Builder,
    bucket: &str,
    give_up_after: Duration,
) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: BACKOFF_MAX.min(give_up_after),
            base: 2.0,
        },
        max_retries: 30,
        retry_timeout: give_up_after,
    };
    // Settings from the environment, such as proxies, are kept.
    let timeouts = [
        (ClientConfigKey::ConnectTimeout, CONNECT.min(give_up_after)),
        (ClientConfigKey::Timeout, give_up_after / 2),
    ];
    let mut builder = builder;
    for (key, timeout) in timeouts {
        let key = AmazonS3ConfigKey::Client(key);
        builder = builder.with_config(key, format!("{}ms", timeout.as_millis().max(1)));
    }
    let store = builder
        .with_bucket_name(bucket)
        .with_retry(retry)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .build()?;
    Ok(Arc::new(store))
}
