//! Services on DDS: two topics each, and two ways of telling which response belongs to which request.
//!
//! *Enhanced* (Fast DDS): the response names the request's writer and sequence number in its RTPS header. *Cyclone*
//! (`rmw_cyclonedds`): request and response begin with the same 16 bytes. As a server we see which one the client
//! used, because only one of them decodes strictly, and answer in kind: no client hangs, whatever it is built on.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rustdds::{GUID, SampleIdentity, SequenceNumber};
use spikewing_msgs::{AnyMessage, cdr::CdrError};

use super::{
    DdsError,
    config::ServiceMapping,
    endpoint::{Factory, Reader, SERVICE_QOS, Sample, Writer},
    graph::Matches,
};
use crate::{codec::dds_type_name, host::plan::ServicePlan, node::CallId};

const HEADER_BYTES: usize = 4;
const CYCLONE_BYTES: usize = 16;

/// A response waits this long for the client's reader to be known.
const LATE_REPLY: Duration = Duration::from_secs(1);

/// To whom a response goes.
#[derive(Clone, Debug)]
pub struct Reply {
    request: SampleIdentity,
    writer: GUID,
    /// Present in the form that `rmw_cyclonedds` uses.
    cyclone: Option<[u8; CYCLONE_BYTES]>,
    from_fast_dds: bool,
}

impl Reply {
    /// From a request.
    pub fn to(sample: &Sample) -> Self {
        let mut request = sample.related.unwrap_or(sample.identity);
        if request.sequence_number == SequenceNumber::UNKNOWN {
            request.sequence_number = sample.identity.sequence_number;
        }
        Self {
            request,
            writer: sample.identity.writer_guid,
            cyclone: None,
            from_fast_dds: sample.related.is_some(),
        }
    }
}

/// Splits a payload in the Cyclone form.
fn split_cyclone(bytes: &[u8]) -> Option<([u8; CYCLONE_BYTES], Vec<u8>)> {
    let (header, rest) = bytes.split_at_checked(HEADER_BYTES)?;
    let (cyclone, body) = rest.split_first_chunk::<CYCLONE_BYTES>()?;
    Some((*cyclone, [header, body].concat()))
}

fn join_cyclone(cyclone: &[u8; CYCLONE_BYTES], encoded: &[u8]) -> Vec<u8> {
    let (header, body) = encoded.split_at_checked(HEADER_BYTES).unwrap_or((encoded, &[]));
    [header, cyclone, body].concat()
}

/// Reads a request in whichever form it has, and notes the form for the response.
pub fn decode_request(
    plan: &ServicePlan,
    preferred: ServiceMapping,
    reply: &mut Reply,
    bytes: &[u8],
) -> Result<AnyMessage, CdrError> {
    let enhanced = (plan.decode_request)(bytes);
    if reply.from_fast_dds {
        return enhanced;
    }
    let cyclone = split_cyclone(bytes)
        .and_then(|(header, rest)| (plan.decode_request)(&rest).ok().map(|message| (header, message)));
    match (enhanced, cyclone) {
        (Ok(message), None) => Ok(message),
        (Ok(message), Some(_)) if preferred == ServiceMapping::Enhanced => Ok(message),
        (_, Some((header, message))) => {
            reply.cyclone = Some(header);
            Ok(message)
        }
        (Err(error), None) => Err(error),
    }
}

/// A service that the node offers.
pub struct ServerEnd {
    /// Requests.
    pub requests: Reader,
    replies: Writer,
    late: Vec<(Instant, Reply, Vec<u8>)>,
}

impl ServerEnd {
    /// Makes the two topics.
    pub fn new(factory: &Factory, plan: &ServicePlan) -> Result<Self, DdsError> {
        let (request, reply, request_type, reply_type) = topics(plan);
        Ok(Self {
            requests: factory.reader(&request, request_type, SERVICE_QOS)?,
            replies: factory.writer(&reply, reply_type, SERVICE_QOS)?,
            late: Vec::new(),
        })
    }

    /// Identities of its reader and writer.
    pub fn guids(&self) -> (GUID, GUID) {
        (self.requests.guid(), self.replies.guid())
    }

    /// Answers, as soon as the client can hear it.
    pub fn respond(&mut self, matches: &mut Matches, reply: Reply, encoded: Vec<u8>) {
        matches.update();
        if matches.has_peer(self.replies.guid(), Some(reply.writer)) {
            self.send(&reply, encoded);
        } else {
            self.late.push((Instant::now() + LATE_REPLY, reply, encoded));
        }
    }

    fn send(&mut self, reply: &Reply, encoded: Vec<u8>) {
        let bytes = match &reply.cyclone {
            Some(header) => join_cyclone(header, &encoded),
            None => encoded,
        };
        self.replies.write(bytes, Some(reply.request));
    }

    /// Sends what could not be sent. Returns whether nothing is left.
    pub fn tend(&mut self, matches: &Matches) -> bool {
        let now = Instant::now();
        for (deadline, reply, encoded) in std::mem::take(&mut self.late) {
            if matches.has_peer(self.replies.guid(), Some(reply.writer)) || now >= deadline {
                self.send(&reply, encoded);
            } else {
                self.late.push((deadline, reply, encoded));
            }
        }
        self.replies.flush() && self.late.is_empty()
    }
}

/// A service that the node calls.
pub struct ClientEnd {
    requests: Writer,
    /// Responses, to us and to others.
    pub replies: Reader,
    mapping: ServiceMapping,
    /// Calls that wait for a response, by sequence number.
    waiting: BTreeMap<i64, CallId>,
    /// Calls that wait for a server to be known.
    unsent: Vec<(CallId, Vec<u8>)>,
    next: i64,
}

impl ClientEnd {
    /// Makes the two topics.
    pub fn new(factory: &Factory, plan: &ServicePlan, mapping: ServiceMapping) -> Result<Self, DdsError> {
        let (request, reply, request_type, reply_type) = topics(plan);
        Ok(Self {
            requests: factory.writer(&request, request_type, SERVICE_QOS)?,
            replies: factory.reader(&reply, reply_type, SERVICE_QOS)?,
            mapping,
            waiting: BTreeMap::new(),
            unsent: Vec::new(),
            next: 0,
        })
    }

    /// Identities of its reader and writer.
    pub fn guids(&self) -> (GUID, GUID) {
        (self.replies.guid(), self.requests.guid())
    }

    /// Calls, as soon as a server is known.
    pub fn call(&mut self, matches: &mut Matches, call: CallId, encoded: Vec<u8>) {
        matches.update();
        self.unsent.push((call, encoded));
        self.tend(matches);
    }

    /// Forgets a call.
    pub fn forget(&mut self, call: CallId) {
        self.unsent.retain(|(id, _)| *id != call);
        self.waiting.retain(|_, id| *id != call);
    }

    /// Sends what waits for a server. Returns whether nothing is left.
    pub fn tend(&mut self, matches: &Matches) -> bool {
        let (reader, writer) = self.guids();
        if matches.has_peer(writer, None) && matches.has_peer(reader, None) {
            for (call, encoded) in std::mem::take(&mut self.unsent) {
                self.send(call, encoded);
            }
        }
        self.requests.flush() && self.unsent.is_empty()
    }

    fn send(&mut self, call: CallId, encoded: Vec<u8>) {
        self.next += 1;
        match self.mapping {
            ServiceMapping::Cyclone => {
                let header = self.cyclone_header(self.next);
                self.requests.write(join_cyclone(&header, &encoded), None);
                self.waiting.insert(self.next, call);
            }
            ServiceMapping::Enhanced => {
                // Without an identity it was not sent, and the call times out.
                if let Some(identity) = self.requests.write(encoded, None) {
                    self.waiting.insert(i64::from(identity.sequence_number), call);
                }
            }
        }
    }

    /// As `rmw_cyclonedds` has it: 8 bytes for the client, 8 for the request.
    fn cyclone_header(&self, sequence: i64) -> [u8; CYCLONE_BYTES] {
        let mut header = [0; CYCLONE_BYTES];
        let (client, request) = header.split_at_mut(8);
        let guid = self.requests.guid().to_bytes();
        client.copy_from_slice(guid.split_at(8).1);
        request.copy_from_slice(&sequence.to_le_bytes());
        header
    }

    /// The call that a sample answers, and the response.
    pub fn response(&mut self, sample: Sample) -> Option<(CallId, Vec<u8>)> {
        match self.mapping {
            ServiceMapping::Enhanced => {
                let related = sample.related?;
                let (reader, writer) = self.guids();
                if related.writer_guid != writer && related.writer_guid != reader {
                    return None;
                }
                let call = self.waiting.remove(&i64::from(related.sequence_number))?;
                Some((call, sample.bytes))
            }
            ServiceMapping::Cyclone => {
                let (header, rest) = split_cyclone(&sample.bytes)?;
                let sequence = header.last_chunk::<8>().map(|s| i64::from_le_bytes(*s))?;
                if header != self.cyclone_header(sequence) {
                    return None;
                }
                Some((self.waiting.remove(&sequence)?, rest))
            }
        }
    }
}

fn topics(plan: &ServicePlan) -> (String, String, String, String) {
    let ServicePlan { service, ros_type, .. } = plan;
    (
        format!("rq{service}Request"),
        format!("rr{service}Reply"),
        dds_type_name(&format!("{ros_type}_Request")),
        dds_type_name(&format!("{ros_type}_Response")),
    )
}

#[cfg(test)]
mod tests {
    use spikewing_msgs::{
        Message, cdr,
        rcl_interfaces::{ListParameters_Request, SetParameters_Request},
        spikewing_msgs::{LoadPolicy_Request, SwapPolicy_Request},
        std_srvs::{SetBool_Request, Trigger_Request},
    };

    use super::*;
    use crate::codec::codec_named;

    fn reads_both<M: Message>(request: &M) {
        let decode = codec_named(M::TYPE).unwrap().decode;
        let plan = ServicePlan {
            port: "s",
            service: "/s".into(),
            ros_type: "s",
            decode_request: decode,
            decode_response: decode,
        };
        let encoded = cdr::encode(request).unwrap();
        for mapping in [ServiceMapping::Enhanced, ServiceMapping::Cyclone] {
            for form in [ServiceMapping::Enhanced, ServiceMapping::Cyclone] {
                let header = [0x9d, 2, 3, 0x84, 5, 6, 7, 8, 1, 0, 0, 0, 0, 0, 0, 0];
                let mut bytes = match form {
                    ServiceMapping::Enhanced => encoded.clone(),
                    ServiceMapping::Cyclone => join_cyclone(&header, &encoded),
                };
                // Both middlewares pad.
                bytes.resize(bytes.len().next_multiple_of(4), 0);
                let identity = SampleIdentity::default();
                let mut reply = Reply {
                    request: identity,
                    writer: identity.writer_guid,
                    cyclone: None,
                    from_fast_dds: false,
                };
                let message = decode_request(&plan, mapping, &mut reply, &bytes).unwrap();
                assert_eq!(M::peel(&message), Some(request), "{form:?}");
                assert_eq!(
                    reply.cyclone,
                    (form == ServiceMapping::Cyclone).then_some(header),
                    "{} {form:?}",
                    M::TYPE
                );
            }
        }
    }

    #[test]
    fn a_server_sees_which_form_a_request_has() {
        reads_both(&Trigger_Request::default());
        reads_both(&SetBool_Request { data: true });
        reads_both(&ListParameters_Request::default());
        reads_both(&SetParameters_Request::default());
        reads_both(&LoadPolicy_Request { path: "policies/x.safetensors".into() });
        reads_both(&SwapPolicy_Request::default());
    }
}
