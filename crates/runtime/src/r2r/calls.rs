//! Calls of one service: what waits for a server, what waits for an answer.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use crate::node::CallId;

/// An answer that is still to come: CDR, or why there is none.
pub type Answer = Pin<Box<dyn Future<Output = Result<Vec<u8>, String>>>>;
/// Done when a server is there, or when that cannot be found out.
pub type Appearance = Pin<Box<dyn Future<Output = Result<(), String>>>>;

/// What reaches a server.
pub trait Line {
    /// Waits for a server.
    fn server(&self) -> Result<Appearance, String>;
    /// Sends a request, CDR with its header.
    fn send(&self, bytes: Vec<u8>) -> Result<Answer, String>;
}

/// The calls of one client, in order.
pub struct Calls {
    line: Box<dyn Line>,
    /// A request that no server hears is lost, so requests wait until one is there.
    waiting: VecDeque<(CallId, Vec<u8>)>,
    appearance: Option<Appearance>,
    sent: Vec<(CallId, Answer)>,
}

impl Calls {
    /// None yet.
    pub fn new(line: Box<dyn Line>) -> Self {
        Self { line, waiting: VecDeque::new(), appearance: None, sent: Vec::new() }
    }

    /// Sends a request as soon as a server is there.
    pub fn call(&mut self, call: CallId, bytes: Vec<u8>) {
        self.waiting.push_back((call, bytes));
    }

    /// Nobody waits for this call any longer.
    pub fn forget(&mut self, call: CallId) {
        self.waiting.retain(|(waiting, _)| *waiting != call);
        self.sent.retain(|(sent, _)| *sent != call);
        if self.waiting.is_empty() {
            self.appearance = None;
        }
    }

    /// Does what can be done now, and hands out what came: the answer to a call, or why it has none.
    pub fn advance(
        &mut self,
        context: &mut Context<'_>,
        mut ended: impl FnMut(CallId, Result<Vec<u8>, String>),
    ) {
        if !self.waiting.is_empty() && self.server_is_there(context) {
            for (call, bytes) in self.waiting.drain(..) {
                match self.line.send(bytes) {
                    Ok(answer) => self.sent.push((call, answer)),
                    Err(reason) => ended(call, Err(reason)),
                }
            }
        }
        self.sent.retain_mut(|(call, answer)| match answer.as_mut().poll(context) {
            Poll::Ready(answer) => {
                ended(*call, answer);
                false
            }
            Poll::Pending => true,
        });
    }

    fn server_is_there(&mut self, context: &mut Context<'_>) -> bool {
        if self.appearance.is_none() {
            self.appearance = self.line.server().ok();
        }
        let Some(appearance) = &mut self.appearance else { return false };
        match appearance.as_mut().poll(context) {
            Poll::Ready(found) => {
                self.appearance = None;
                found.is_ok()
            }
            Poll::Pending => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, future::poll_fn, rc::Rc, task::Waker};

    use super::*;

    /// A server that appears when told and answers when told.
    #[derive(Clone, Default)]
    struct Wire(Rc<RefCell<State>>);

    #[derive(Default)]
    struct State {
        there: bool,
        refuses: bool,
        requests: Vec<Vec<u8>>,
        answers: std::collections::BTreeMap<usize, Result<Vec<u8>, String>>,
    }

    impl Line for Wire {
        fn server(&self) -> Result<Appearance, String> {
            let state = Rc::clone(&self.0);
            Ok(Box::pin(poll_fn(
                move |_| if state.borrow().there { Poll::Ready(Ok(())) } else { Poll::Pending },
            )))
        }

        fn send(&self, bytes: Vec<u8>) -> Result<Answer, String> {
            let mut state = self.0.borrow_mut();
            if state.refuses {
                return Err("refused".into());
            }
            let index = state.requests.len();
            state.requests.push(bytes);
            let state = Rc::clone(&self.0);
            Ok(Box::pin(poll_fn(move |_| {
                state.borrow_mut().answers.remove(&index).map_or(Poll::Pending, Poll::Ready)
            })))
        }
    }

    fn advance(calls: &mut Calls) -> Vec<(u64, Result<Vec<u8>, String>)> {
        let mut ended = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        calls.advance(&mut context, |call, answer| ended.push((call.0, answer)));
        ended
    }

    #[test]
    fn requests_wait_for_a_server_and_answers_find_their_calls() {
        let wire = Wire::default();
        let mut calls = Calls::new(Box::new(wire.clone()));
        calls.call(CallId(1), vec![1]);
        calls.call(CallId(2), vec![2]);
        assert!(advance(&mut calls).is_empty());
        assert!(wire.0.borrow().requests.is_empty(), "nobody is there to hear it");
        wire.0.borrow_mut().there = true;
        assert!(advance(&mut calls).is_empty());
        assert_eq!(wire.0.borrow().requests, [vec![1], vec![2]]);
        wire.0.borrow_mut().answers.insert(1, Ok(vec![20]));
        assert_eq!(advance(&mut calls), [(2, Ok(vec![20]))]);
        wire.0.borrow_mut().answers.insert(0, Err("cannot be read".into()));
        assert_eq!(advance(&mut calls), [(1, Err("cannot be read".into()))]);
        assert!(advance(&mut calls).is_empty());
    }

    #[test]
    fn a_call_that_nobody_waits_for_is_neither_sent_nor_answered() {
        let wire = Wire::default();
        let mut calls = Calls::new(Box::new(wire.clone()));
        calls.call(CallId(1), vec![1]);
        advance(&mut calls);
        calls.forget(CallId(1));
        wire.0.borrow_mut().there = true;
        calls.call(CallId(2), vec![2]);
        advance(&mut calls);
        assert_eq!(wire.0.borrow().requests, [vec![2]]);
        calls.forget(CallId(2));
        wire.0.borrow_mut().answers.insert(0, Ok(vec![20]));
        assert!(advance(&mut calls).is_empty());
    }

    #[test]
    fn a_request_that_cannot_be_sent_has_a_reason() {
        let wire = Wire::default();
        (wire.0.borrow_mut().there, wire.0.borrow_mut().refuses) = (true, true);
        let mut calls = Calls::new(Box::new(wire));
        calls.call(CallId(7), vec![]);
        assert_eq!(advance(&mut calls), [(7, Err("refused".into()))]);
    }
}
