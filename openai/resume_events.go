package openai

import (
	"bytes"

	"github.com/retrip-go/retrip/internal/json"
	"github.com/retrip-go/retrip/internal/sse"
	"github.com/retrip-go/retrip/retry"
)

// maxResumedEvent is the length in bytes of the longest event that is held until
// it is whole. A longer one passes as it comes, and the stream can't be resumed
// from then on. Such events carry an image; those of text have a few hundred bytes.
const maxResumedEvent = sse.MaxLine

// A blockSplitter cuts a stream into blocks that end in a blank line. A block is an
// event or nothing but comments. It keeps the bytes as they are, because the reader
// gets them unchanged.
type blockSplitter struct {
	buf   []byte
	start int // of the block in buf
	at    int // what was not looked at begins here
	state lineState
}

// A lineState is where in a line a blockSplitter is. Lines may end in "\n", "\r" or
// "\r\n", and one stream may hold all of them.
type lineState uint8

const (
	atLineStart  lineState = iota // behind "\n", or at the beginning of a block
	inLine                        // behind anything else
	afterReturn                   // behind the "\r" that ends a line
	blankReturns                  // behind the "\r" of a blank line, to which a "\n" may belong
)

// feed adds the next bytes of the stream. It moves what is left to the front first,
// so that the buffer does not grow with the stream. Blocks that next has returned are
// overwritten by that.
func (s *blockSplitter) feed(p []byte) {
	if s.start > 0 {
		s.buf = s.buf[:copy(s.buf, s.buf[s.start:])]
		s.at -= s.start
		s.start = 0
	}
	s.buf = append(s.buf, p...)
}

// next returns the next whole block, which is valid until the next feed; nil if
// there is none. Each byte is looked at once, however small the pieces are in which a
// block comes. A block that ends in "\r" is whole only when the next byte is known: a
// "\n" would still belong to it, and would otherwise begin the next block with a blank
// line.
func (s *blockSplitter) next() []byte {
	for s.at < len(s.buf) {
		c := s.buf[s.at]
		if s.state == blankReturns && c != '\n' {
			return s.cut()
		}
		s.at++
		switch {
		case c == '\n' && s.state != inLine && s.state != afterReturn:
			return s.cut()
		case c == '\n':
			s.state = atLineStart
		case c == '\r' && s.state == afterReturn:
			return s.cut() // lines end in "\r" alone
		case c == '\r' && s.state == atLineStart:
			s.state = blankReturns
		case c == '\r':
			s.state = afterReturn
		default:
			s.state = inLine
		}
	}
	return nil
}

// cut ends a block at the present place, and returns it with its blank line.
func (s *blockSplitter) cut() []byte {
	block := s.buf[s.start:s.at]
	s.start, s.state = s.at, atLineStart
	return block
}

// rest returns the block that is not whole.
func (s *blockSplitter) rest() []byte { return s.buf[s.start:] }

// clear forgets what was fed, and keeps the buffer for the next stream.
func (s *blockSplitter) clear() { *s = blockSplitter{buf: s.buf[:0]} }

// A numberedEvent reads an event of the Responses API, with what resuming needs of
// it: its number, its type, and the id and status of the response that it carries.
type numberedEvent struct {
	responseEvent

	number   int64
	numbered bool
	kind     string // its type, if it is one of openerNames
	id       string // of the response that it carries; "" if it carries none
	status   string // likewise
}

// openerNames are the types of events that a provider may repeat, without a number,
// whenever a stream begins. The reader must see each of them once.
var openerNames = [...]string{"response.created", "response.queued", "response.in_progress", "ping", "keepalive"}

// event reads one event of a stream. Data that is no JSON object counts as content,
// since it is nothing that a later stream may repeat.
func (e *numberedEvent) event(s *stream, name, data []byte) meaning {
	*e = numberedEvent{}
	e.opens(name)
	if data[0] != '{' {
		return content
	}
	e.responseEvent = responseEvent{facts: &s.facts, meaning: content}
	e.walk.feed(data, e)
	return e.result(s)
}

// opens notes the type of an event if it is one that may be repeated. It may stand in the
// name, in the data, or in both.
func (e *numberedEvent) opens(typ []byte) {
	for _, name := range openerNames {
		if string(typ) == name {
			e.kind = name
		}
	}
}

// visit notes the members that resuming needs, and leaves the rest to the reader of
// any event.
func (e *numberedEvent) visit(in place, s *json.Scanner) place {
	key := string(s.Key())
	switch {
	case in == inTop && key == "sequence_number":
		e.number, e.numbered = json.Count(s.Value())
	case in == inTop && key == "type":
		e.opens(unquoted(s.Value()))
	case in == inResponse && key == "id":
		// As it is written: what has an escape in it is no id to be trusted.
		e.id = string(unquoted(s.Value()))
		if e.id == "" {
			e.id = "?" // there is one, which can't be used
		}
	case in == inResponse && key == "status":
		e.status = statusName(s.Value())
	}
	return e.responseEvent.visit(in, s)
}

// statusName returns the status of a response, or "" if value is none that may be
// shown. It ends up in an error's text, which must hold nothing else of an answer: errors
// are logged, and answers are private. The statuses that the API has are short words
// in lower case.
func statusName(value []byte) string {
	name := unquoted(value)
	if len(name) > 32 {
		return ""
	}
	for _, c := range name {
		if (c < 'a' || c > 'z') && c != '_' {
			return ""
		}
	}
	return string(name)
}

// A resumedEvents reads the events of a response that come in several streams, and
// makes one stream of them. It decides by their numbers what the reader has seen
// already. A provider is asked for what follows the last number, but it may send more
// than that, or less, and both would corrupt the answer without a word.
type resumedEvents struct {
	blocks blockSplitter
	stream stream
	event  numberedEvent

	id     string                 // of the response, once it is known
	status string                 // of the response, as it was last seen
	last   int64                  // the number of the last event, which is whole
	any    bool                   // there was one with a number
	seen   [len(openerNames)]bool // openers that the reader has got
	raw    bool                   // what comes is passed on as it comes: the response has ended, or can't be resumed
	over   bool                   // the response has ended, or failed

	again  bool // this is not the first stream
	joined bool // of this stream, the event after the last one has come
}

// A discontinuity says why a stream does not continue the one before. It is "" if
// the stream does. Its text completes the sentence of a [ResumeError].
type discontinuity string

const (
	refusedGap     discontinuity = "was resumed with a gap"
	refusedOther   discontinuity = "was resumed with another response"
	refusedNumbers discontinuity = "was resumed with events that have no numbers"
	refusedStream  discontinuity = "was not resumed with a stream of events"
	refusedForNow  discontinuity = "was resumed with an error that may pass"
)

// begin prepares for another stream of the same response. Half an event of the last
// stream is dropped, because the provider sends that event again.
func (e *resumedEvents) begin() {
	e.blocks.clear()
	e.stream = stream{}
	e.again, e.joined = true, false
}

// resumable reports whether the response can be asked for what comes after the last
// event. That needs its id and the number of an event.
func (e *resumedEvents) resumable() bool { return !e.raw && e.id != "" && e.any }

// add processes the next bytes of the stream, and appends to out what its reader is
// to get. Only whole events are handed on while the stream can be resumed. Half an event
// in the reader's hands could not be continued by a stream that begins with that event
// anew.
func (e *resumedEvents) add(out, p []byte) ([]byte, discontinuity) {
	if e.raw {
		return append(out, p...), ""
	}
	e.blocks.feed(p)
	for !e.raw {
		block := e.blocks.next()
		if block == nil {
			break
		}
		deliver, refused := e.judge(block)
		if refused != "" {
			return out, refused
		}
		if deliver {
			out = append(out, e.withoutMark(block)...)
		}
	}
	if !e.raw && len(e.blocks.rest()) > maxResumedEvent {
		if refused := e.passLong(e.blocks.rest()); refused != "" {
			return out, refused
		}
	}
	if e.raw {
		out = e.flush(out)
	}
	return out, ""
}

// withoutMark removes the byte order mark of a later stream. One may begin a stream, but
// for the reader the stream began long ago, and a mark within it is no event.
func (e *resumedEvents) withoutMark(block []byte) []byte {
	if !e.again {
		return block
	}
	return bytes.TrimPrefix(block, []byte(byteOrderMark))
}

// flush appends what is held of half an event. After that the stream passes as it
// comes or is over, so the buffer is not needed.
func (e *resumedEvents) flush(out []byte) []byte {
	out = append(out, e.withoutMark(e.blocks.rest())...)
	e.blocks = blockSplitter{}
	return out
}

// end processes the good end of a stream. A response's last event counts even
// without its blank line, because some servers close right after it. Half of any
// other event is left, to be asked for again.
func (e *resumedEvents) end(out []byte) []byte {
	if e.raw || len(e.blocks.rest()) == 0 {
		return out
	}
	last := append(bytes.Clone(e.blocks.rest()), "\n\n"...)
	if m, ok := e.read(last); !ok || m != terminal && m != failed {
		return out
	}
	if deliver, refused := e.judge(last); deliver && refused == "" {
		out = e.flush(out)
	}
	return out
}

// judge reads a block and decides whether the reader gets it. The order of the cases
// matters: another response is refused before its numbers are compared, and an event
// that the reader has seen is dropped before a gap is looked for.
func (e *resumedEvents) judge(block []byte) (deliver bool, refused discontinuity) {
	if len(block) > maxResumedEvent {
		refused = e.passLong(block)
		return refused == "", refused
	}
	m, ok := e.read(block)
	if !ok {
		return true, "" // comments
	}
	event, waiting := &e.event, e.again && !e.joined
	isNew := e.isNew(event.kind)
	switch {
	case e.again && event.id != "" && event.id != e.id:
		return false, refusedOther
	case event.numbered && e.again && event.number <= e.last:
		return false, "" // the reader has it
	case event.numbered && waiting && event.number != e.last+1:
		return false, refusedGap // an event is lost, and with it a part of the answer
	case event.numbered:
		e.last, e.any, e.joined = event.number, true, true
	case m == opener: // such as a ping, or an opener that this server does not number
		if e.again && !isNew {
			return false, ""
		}
	case waiting && m == failed && inBandVerdict(e.stream.error, retry.NotRetryable).reason != retry.NotRetryable:
		return false, refusedForNow
	case waiting:
		return false, refusedNumbers // it can't be known where this stream begins
	case m == content:
		e.raw = true // it can't be asked for what comes after this one
	}
	e.know(event)
	e.over = e.over || m == terminal || m == failed
	e.raw = e.raw || e.over || m == corrupt
	return true, ""
}

// read reads the event of a block. ok is false if there is none in it.
func (e *resumedEvents) read(block []byte) (m meaning, ok bool) {
	e.event = numberedEvent{} // nothing of the event before may pass for this one's
	e.stream.reader = &e.event
	e.stream.scanner.Feed(block)
	m, ok = e.stream.next()
	for e.stream.scanner.Next() {
		continue // there is one event in a block
	}
	return m, ok
}

// know keeps what an event says of the response. The first id counts. An id that
// can't stand in a URL ends resuming, because no request may be led elsewhere by a
// provider's text.
func (e *resumedEvents) know(event *numberedEvent) {
	if event.status != "" {
		e.status = event.status
	}
	switch {
	case event.id == "" || e.id != "":
	case isResponseID(event.id):
		e.id = event.id
	default:
		e.raw = true
	}
}

// isNew reports whether an opener is the first of its type. An opener of an unknown
// type always counts as new, since to drop what is not understood would harm the
// reader.
func (e *resumedEvents) isNew(kind string) bool {
	for i, name := range openerNames {
		if kind == name {
			seen := e.seen[i]
			e.seen[i] = true
			return !seen
		}
	}
	return true
}

// passLong passes an event that is too long to be held, of which begin is the
// beginning. Memory stays bounded that way, at the price of resuming. Right after a
// break the beginning must already show that the event continues the stream, since
// bytes that were passed can't be taken back.
func (e *resumedEvents) passLong(begin []byte) discontinuity {
	if e.again && !e.joined {
		n, ok := numberIn(begin)
		if !ok || n != e.last+1 {
			return refusedNumbers
		}
		e.last, e.joined = n, true
	}
	e.raw = true
	return ""
}

// numberIn returns the number of an event by its beginning, if the number stands
// there.
func numberIn(begin []byte) (n int64, ok bool) {
	for line := range bytes.Lines(begin) {
		if data, isData := bytes.CutPrefix(line, []byte("data:")); isData {
			var event numberedEvent
			event.facts = new(facts)
			event.walk.feed(data, &event)
			return event.number, event.numbered
		}
	}
	return 0, false
}
