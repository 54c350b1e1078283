package retry

import (
	"net/http"

	"github.com/retrip-go/retrip/internal/call"
)

// A spares is what a call that may go to several targets has to return if all of
// them fail. It is the answer of the first target, since that is the one that was
// asked for: the 401 of another target would mislead its caller. Where the first target
// has not answered at all, another's answer that it can't serve now may stand in.
type spares struct {
	first   spare // of the first target: its latest answer
	failure error // that the first target ended in, if it has not answered
	asked   bool  // the first target was asked
	later   spare // of another target
}

// A spare is a response that was given up, with what is known of it. The layers above
// ask the call for both, as if the response had come last.
type spare struct {
	kept    *kept
	answer  any
	subject call.Subject
	err     error // what was found wrong with it
}

// add gives an attempt up, and keeps its response if it may be the one to return. All
// others are drained and forgotten: a call keeps two responses at most.
func (s *spares) add(c *call.Call, a *attempt) {
	first := s.noteFirst(c, a.failure())
	if a.Response == nil {
		a.cancel(errGivenUp)
		return
	}
	made := spare{answer: c.Answer, subject: a.ctx.Subject, err: a.Err}
	status := a.Response.StatusCode
	made.kept = keep(a.Response, &a.ctx)
	switch {
	case first:
		s.first = made
	case isUnable(status):
		s.later = made
	}
}

// noteFirst notes what the first target has failed with, if the latest attempt
// went there or was refused by it. It reports whether the attempt went there.
func (s *spares) noteFirst(c *call.Call, failure error) bool {
	first, refusal := c.Router.First()
	switch {
	case first:
		s.asked, s.failure = true, failure
	case refusal != nil && !s.asked:
		s.asked, s.failure = true, refusal
	}
	return first
}

// isUnable reports whether a status says that a server can't serve any caller now. It
// holds for the first target as well, in place of the error that it ended in.
func isUnable(status int) bool {
	return status == http.StatusRequestTimeout || status == http.StatusTooManyRequests || status >= http.StatusInternalServerError
}

// settle makes the last attempt of a call, if it has failed, bring what the caller
// gets: its own response if it went to the first target, else the one kept from there. A
// call that the caller has ended keeps its error, since no answer is waited for.
func (s *spares) settle(c *call.Call, a *attempt) {
	c.Answered = &a.ctx.Subject
	if a.Err == nil && a.Response != nil && a.Response.StatusCode < http.StatusBadRequest || c.Err() != nil || isCanceled(a.Request) {
		return
	}
	first := !a.rejected && s.noteFirst(c, a.Err)
	switch {
	case first && a.Response != nil, s.first.replace(c, a):
	case a.Response != nil && isUnable(a.Response.StatusCode), s.later.replace(c, a):
	case s.asked && !first:
		a.giveUp()
		a.Err, a.rejected, a.NotSent = s.failure, false, false
	}
}

// replace puts the spare in the place of what an attempt has brought, and reports
// whether there is one.
func (s *spare) replace(c *call.Call, a *attempt) bool {
	response := s.kept.take() //nolint:bodyclose // who gets the attempt closes it
	if response == nil {
		return false
	}
	a.giveUp()
	a.Response, a.Err, a.rejected = response, s.err, false
	c.Answered, c.Answer = &s.subject, s.answer
	return true
}

// giveUp drops the attempt's own response. It is drained as any other, for the sake of
// its connection.
func (a *attempt) giveUp() {
	if a.Response != nil {
		keep(a.Response, &a.ctx)
		a.Response = nil
	}
}
