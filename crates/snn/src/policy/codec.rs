//! Policies to bytes and back.

use super::metadata::{Kind, Metadata, short};
use super::{MAX_BYTES, Model, PARAMETER_LIMIT, Policy, PolicyError, SelfTest, Signature};
use crate::{INPUT_LIMIT, Lif, Linear, Mlp, Network};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Longest self-test accepted: checking a hostile file must not take long.
const MAX_SELF_TEST_STEPS: usize = 1_000;

impl Policy {
    /// The file's bytes. The same policy always gives the same bytes, so its sha256 names it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut metadata = self.signed_metadata();
        if let Some(signature) = &self.signature {
            signature.write(&mut metadata);
        }
        let mut header = Map::new();
        header.insert("__metadata__".to_owned(), json!(metadata));
        let mut data = Vec::new();
        for (name, shape, values) in self.tensors() {
            let start = data.len();
            data.extend(values.iter().flat_map(|x| x.to_le_bytes()));
            header.insert(name, json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]}));
        }
        let mut header = Value::Object(header).to_string();
        // The format wants the data to start at a multiple of 8.
        while !header.len().is_multiple_of(8) {
            header.push(' ');
        }
        let mut bytes = Vec::with_capacity(8 + header.len() + data.len());
        bytes.extend((header.len() as u64).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    /// sha256 over metadata and tensors, without the signature: what is signed. Independent of the file's layout.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut field = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        let metadata = self.signed_metadata();
        field(&(metadata.len() as u64).to_le_bytes());
        for (key, value) in &metadata {
            field(key.as_bytes());
            field(value.as_bytes());
        }
        for (name, shape, values) in self.tensors() {
            field(name.as_bytes());
            field(&shape.iter().flat_map(|n| (*n as u64).to_le_bytes()).collect::<Vec<u8>>());
            field(&values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
        }
        hash.finalize().into()
    }

    /// Digest of what flies, whatever the file says about itself: see [`Model::content`].
    pub fn content(&self) -> [u8; 32] {
        self.model.content()
    }

    fn signed_metadata(&self) -> BTreeMap<String, String> {
        self.metadata.to_map(self.model.kind(), &self.model.widths())
    }

    /// Name, shape and values, sorted by name.
    fn tensors(&self) -> Vec<(String, Vec<usize>, &[f32])> {
        let mut list = self.model.tensors();
        let width = |values: &[f32]| values.len() / self.self_test.steps.max(1);
        for (name, values) in
            [("selftest.input", &self.self_test.input), ("selftest.output", &self.self_test.output)]
        {
            list.push((name.to_owned(), vec![self.self_test.steps, width(values)], values.as_slice()));
        }
        list.sort_by(|a, b| a.0.cmp(&b.0));
        list
    }

    /// Reads a policy from any bytes. Checks format, shapes and values; not what they are for, nor the self-test and
    /// signature: that is [`Policy::verify`].
    ///
    /// # Errors
    /// [`PolicyError`]; never panics, whatever the bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PolicyError> {
        if bytes.len() > MAX_BYTES {
            return Err(PolicyError::TooLarge { bytes: bytes.len(), limit: MAX_BYTES });
        }
        let unreadable =
            |e: safetensors::SafeTensorError| PolicyError::NotSafetensors { reason: short(&e.to_string()) };
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(unreadable)?;
        let file = SafeTensors::deserialize(bytes).map_err(unreadable)?;
        let mut map: BTreeMap<String, String> =
            header.metadata().clone().unwrap_or_default().into_iter().collect();
        let signature = Signature::read(&mut map)?;
        let (metadata, kind, widths) = Metadata::from_map(map)?;

        let mut reader = Reader { file: &file, used: Vec::new() };
        let model = reader.model(kind, &widths)?;
        let self_test = reader.self_test(&widths)?;
        if let Some(extra) = file.names().into_iter().filter(|n| !reader.used.iter().any(|u| u == n)).min() {
            return Err(PolicyError::UnexpectedTensor { tensor: short(extra) });
        }
        Ok(Self { metadata, model, self_test, signature })
    }
}

impl Model {
    /// sha256 over the learned numbers alone. Two files with other words around the same weights have the same content.
    pub fn content(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for (name, shape, values) in self.tensors() {
            hash.update(name.as_bytes());
            hash.update([0]);
            for n in shape {
                hash.update((n as u64).to_le_bytes());
            }
            for value in values {
                hash.update(value.to_le_bytes());
            }
        }
        hash.finalize().into()
    }
}

struct Reader<'a> {
    file: &'a SafeTensors<'a>,
    used: Vec<String>,
}

impl Reader<'_> {
    fn model(&mut self, kind: Kind, widths: &[usize]) -> Result<Model, PolicyError> {
        let (mut linear, mut lif) = (Vec::new(), Vec::new());
        for (i, pair) in widths.windows(2).enumerate() {
            let (n, inputs, outputs) = (i + 1, pair[0], pair[1]);
            let weight = self.parameter(format!("fc{n}.weight"), &[outputs, inputs])?;
            let bias = self.parameter(format!("fc{n}.bias"), &[outputs])?;
            linear.push(Linear::new(inputs, outputs, weight, bias)?);
            if kind == Kind::Spiking && n + 1 < widths.len() {
                let beta = self.parameter(format!("lif{n}.beta"), &[outputs])?;
                lif.push(Lif::new(beta, self.parameter(format!("lif{n}.threshold"), &[outputs])?)?);
            }
        }
        Ok(match kind {
            Kind::Spiking => Model::Spiking(Network::new(linear, lif)?),
            Kind::Mlp => Model::Mlp(Mlp::new(linear)?),
        })
    }

    fn self_test(&mut self, widths: &[usize]) -> Result<SelfTest, PolicyError> {
        let name = "selftest.input";
        let (shape, _) = self.raw(name)?;
        let steps = shape.first().copied().unwrap_or(0).clamp(1, MAX_SELF_TEST_STEPS);
        let (inputs, outputs) = (widths[0], widths[widths.len() - 1]);
        let input = self.values(name.to_owned(), &[steps, inputs])?;
        check_within(name, &input, INPUT_LIMIT as f32)?;
        let output = self.values("selftest.output".to_owned(), &[steps, outputs])?;
        check_within("selftest.output", &output, 1.0)?;
        Ok(SelfTest { steps, input, output })
    }

    fn parameter(&mut self, name: String, shape: &[usize]) -> Result<Vec<f32>, PolicyError> {
        let values = self.values(name.clone(), shape)?;
        check_values(&name, &values)?;
        Ok(values)
    }

    fn raw(&self, name: &str) -> Result<(Vec<usize>, &[u8]), PolicyError> {
        let tensor =
            self.file.tensor(name).map_err(|_| PolicyError::MissingTensor { tensor: name.to_owned() })?;
        if tensor.dtype() != Dtype::F32 {
            return Err(PolicyError::TensorType { tensor: name.to_owned(), got: tensor.dtype().to_string() });
        }
        Ok((tensor.shape().to_vec(), tensor.data()))
    }

    fn values(&mut self, name: String, expected: &[usize]) -> Result<Vec<f32>, PolicyError> {
        let (got, data) = self.raw(&name)?;
        if got != expected {
            return Err(PolicyError::TensorShape { tensor: name, expected: expected.to_vec(), got });
        }
        let values = data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        self.used.push(name);
        Ok(values)
    }
}

pub(super) fn check_values(name: &str, values: &[f32]) -> Result<(), PolicyError> {
    check_within(name, values, PARAMETER_LIMIT)
}

fn check_within(name: &str, values: &[f32], limit: f32) -> Result<(), PolicyError> {
    match values.iter().position(|x| x.is_nan() || x.abs() > limit) {
        None => Ok(()),
        Some(index) => {
            Err(PolicyError::Value { tensor: name.to_owned(), index, value: values[index], limit })
        }
    }
}
