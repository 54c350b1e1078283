package openai

import "github.com/retrip-go/retrip/internal/json"

// A jsonAnswer follows an answer that is one JSON value, as it passes. All
// formats are read alike: content, usage and errors stand in the same few
// places. Nothing of the value is kept but numbers and names, since an answer may be
// as long as megabytes of embeddings. The zero value is ready for use.
type jsonAnswer struct {
	walk   walk
	facts  facts
	error  inBandError
	filled bool // there is content, beside which an error is no failure
}

// feed looks at the next bytes.
func (a *jsonAnswer) feed(p []byte) { a.walk.feed(p, a) }

// end says that no more bytes come.
func (a *jsonAnswer) end() { a.walk.end(a) }

// whole reports whether the value is complete.
func (a *jsonAnswer) whole() bool { return a.walk.scan.Whole() }

// over reports whether nothing that follows belongs to the answer: it is
// complete, or can no longer become a value. Either ends the hold of the delivery.
func (a *jsonAnswer) over() bool { return a.whole() || a.walk.scan.Malformed() }

// failed returns the error that the answer is, if it is one.
func (a *jsonAnswer) failed() (apiError, bool) { return a.error.failed(a.filled) }

// visit reads what stands in a place of the answer. A place of content has nothing to
// read: that there is something in it is enough.
func (a *jsonAnswer) visit(in place, s *json.Scanner) place {
	switch in {
	case inTop:
		return a.top(s)
	case inUsage, inUsageDetails:
		return a.facts.usage.visit(in, s)
	case inContent:
		a.filled = true
	case inChoices:
		a.filled = true
		if s.Kind() == json.Object {
			return inChoice
		}
	case inChoice:
		return a.error.choice(s)
	default:
		return a.error.visit(in, s)
	}
	return nowhere
}

// top reads a member at the top level. The names of content are those of chat and
// completions, embeddings, Responses, Messages, and moderations. A choice alone counts
// as content, because its error is read in its place.
func (a *jsonAnswer) top(s *json.Scanner) place {
	switch string(s.Key()) {
	case "choices":
		if s.Kind() == json.Array {
			return inChoices
		}
	case "data", "output", "content", "results":
		if isContainer(s) {
			return inContent
		}
		a.filled = a.filled || !isNothing(s.Value())
	case "model", "usage":
		return a.facts.top(s)
	default:
		return a.error.top(s)
	}
	return nowhere
}

// An inBandError is the error inside a 2xx: at the top level of its JSON, or in
// a choice, where some gateways put it when one of several choices fails. An answer
// with an error in a choice is no answer, although there may be content beside it.
type inBandError struct {
	errorReader              // at the top level
	ofChoice    *errorReader // in the choices; nil until one has an error
	choosing    bool         // the error object that is being read is a choice's

	inChoice bool // a choice has an error
	finished bool // a choice has the finish_reason "error"
}

// choice reads one member of a choice, and names the place inside it. A finish_reason of
// "error" is OpenRouter's word for a failure whose codes may be missing.
func (e *inBandError) choice(s *json.Scanner) place {
	switch string(s.Key()) {
	case "finish_reason":
		e.finished = e.finished || string(s.Value()) == `"error"`
	case "error":
		e.choosing = true
		if e.ofChoice == nil {
			e.ofChoice = new(errorReader)
		}
		inner := e.ofChoice.begin(s)
		e.inChoice = e.inChoice || e.ofChoice.marked
		return inner
	}
	return nowhere
}

// top reads a member that stands beside the choices.
func (e *inBandError) top(s *json.Scanner) place {
	e.choosing = false
	return e.errorReader.top(s)
}

// visit reads a value inside an error object.
func (e *inBandError) visit(in place, s *json.Scanner) place {
	if !e.choosing || in == outside || in == inList || in == inTop {
		return e.errorReader.visit(in, s)
	}
	inner := e.ofChoice.visit(in, s)
	e.inChoice = e.inChoice || e.ofChoice.says
	return inner
}

// failed returns the error. One beside content is a gateway's remark on a good
// answer, and no failure; one inside a choice always is. Where both have codes, those of
// the choice are the exact ones.
func (e *inBandError) failed(besideContent bool) (apiError, bool) {
	found, ok := e.found()
	if e.ofChoice != nil {
		if of, inChoice := e.ofChoice.found(); inChoice {
			found = of
		}
	}
	return found, e.inChoice || e.finished || ok && !besideContent
}
