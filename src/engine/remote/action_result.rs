//! Results as the Bazel remote execution protocol writes them (`remote_execution.proto`,
//! version 2, `ActionResult`), so that servers accept them and keep what they name.
//!
//! What counts is the signed statement, in the auxiliary metadata; everything else is for
//! servers that look whether a result is complete.

use prost::Message;

use super::statement::{Part, Signed};

/// The type of the auxiliary metadata.
const TYPE_URL: &str = "type.googleapis.com/xstitch.cache.v1.SignedStatement";

#[derive(Clone, PartialEq, Message)]
struct ActionResult {
    #[prost(message, repeated, tag = "2")]
    output_files: Vec<OutputFile>,
    #[prost(message, optional, tag = "9")]
    execution_metadata: Option<ExecutedActionMetadata>,
}

#[derive(Clone, PartialEq, Message)]
struct OutputFile {
    #[prost(string, tag = "1")]
    path: String,
    #[prost(message, optional, tag = "2")]
    digest: Option<BlobDigest>,
}

#[derive(Clone, PartialEq, Message)]
struct BlobDigest {
    #[prost(string, tag = "1")]
    hash: String,
    #[prost(int64, tag = "2")]
    size_bytes: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ExecutedActionMetadata {
    #[prost(string, tag = "1")]
    worker: String,
    #[prost(message, repeated, tag = "11")]
    auxiliary_metadata: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct SignedStatement {
    #[prost(bytes = "vec", tag = "1")]
    statement: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    signature: Vec<u8>,
}

/// A statement and the parts that it needs, by path.
pub fn encode(signed: &Signed, parts: &[(String, Part)]) -> Vec<u8> {
    let Signed { text, key, signature } = signed.clone();
    let value = SignedStatement { statement: text, key, signature }.encode_to_vec();
    let output_files = parts.iter().map(|(path, part)| OutputFile {
        path: path.clone(),
        digest: Some(BlobDigest {
            hash: part.digest.hex(),
            size_bytes: i64::try_from(part.size_bytes).unwrap_or(i64::MAX),
        }),
    });
    ActionResult {
        output_files: output_files.collect(),
        execution_metadata: Some(ExecutedActionMetadata {
            worker: concat!("xstitch/", env!("CARGO_PKG_VERSION")).to_owned(),
            auxiliary_metadata: vec![Any { type_url: TYPE_URL.to_owned(), value }],
        }),
    }
    .encode_to_vec()
}

/// The statement of a result; an error says what the bytes are instead.
pub fn decode(bytes: &[u8]) -> Result<Signed, String> {
    let result =
        ActionResult::decode(bytes).map_err(|error| format!("it is no ActionResult ({error})"))?;
    let metadata = result.execution_metadata.unwrap_or_default().auxiliary_metadata;
    let own = metadata.into_iter().find(|own| own.type_url == TYPE_URL);
    let own = own.ok_or("it is not signed")?;
    let SignedStatement { statement: text, key, signature } =
        SignedStatement::decode(own.value.as_slice())
            .map_err(|error| format!("its signature cannot be read ({error})"))?;
    Ok(Signed { text, key, signature })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;

    #[test]
    fn the_bytes_are_those_of_the_protocol() {
        let signed = Signed { text: b"{}".into(), key: vec![1], signature: vec![2, 3] };
        let part = Part { digest: Digest::of(b"x"), size_bytes: 300 };
        let bytes = encode(&signed, &[("bin/x".to_owned(), part)]);
        // Field 2, of 77 bytes: path, then a digest whose size takes two bytes.
        let mut wanted = vec![0x12, 78, 0x0a, 5];
        wanted.extend(b"bin/x");
        wanted.extend([0x12, 69, 0x0a, 64]);
        wanted.extend(part.digest.hex().bytes());
        wanted.extend([0x10, 0xac, 0x02]);
        // Field 9: the worker, then field 11 with a type and the three parts of the statement.
        let any: Vec<u8> = [
            &[0x0a, u8::try_from(TYPE_URL.len()).unwrap()],
            TYPE_URL.as_bytes(),
            &[0x12, 11, 0x0a, 2, b'{', b'}', 0x12, 1, 1, 0x1a, 2, 2, 3],
        ]
        .concat();
        let worker = concat!("xstitch/", env!("CARGO_PKG_VERSION"));
        let metadata: Vec<u8> = [
            &[0x0a, u8::try_from(worker.len()).unwrap()],
            worker.as_bytes(),
            &[0x5a, u8::try_from(any.len()).unwrap()],
            &any,
        ]
        .concat();
        wanted.extend([0x4a, u8::try_from(metadata.len()).unwrap()]);
        wanted.extend(metadata);
        assert_eq!(bytes, wanted);
        assert_eq!(decode(&bytes), Ok(signed));
    }

    #[test]
    fn other_bytes_are_no_results() {
        for bytes in [&b"<!DOCTYPE html><html>not here</html>"[..], b"{\"a\": 1}", b"\xff\xff\xff"]
        {
            let error = decode(bytes).unwrap_err();
            assert!(error.starts_with("it is no"), "{error}");
        }
        assert_eq!(decode(b""), Err("it is not signed".to_owned()));
        let signed = Signed { text: vec![7; 300], key: vec![1; 32], signature: vec![2; 64] };
        let whole = encode(&signed, &[]);
        for length in 0..whole.len() {
            assert!(decode(&whole[..length]).is_err(), "{length}");
        }
    }
}
