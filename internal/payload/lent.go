package payload

import (
	"bytes"
	"io"
	"reflect"
	"slices"
)

// share is Buffer for bytes that are in memory already.
func (s *Source) share(length, limit int64) ([]byte, *Stream, error) {
	switch got := int64(len(s.data)); {
	case length > 0 && got != length:
		s.data = nil
		return nil, nil, &LengthError{Want: length, Got: min(got, length+1)}
	case got > limit:
		r := s.handOver()
		return nil, &Stream{Reader: r, Closer: r}, nil
	}
	return s.data, nil, nil
}

// Through returns a body like body that is to be sent once, unread. The bytes of
// one in memory are given back as those of a payload are.
func (s *Source) Through(body io.ReadCloser) io.ReadCloser {
	if s.borrow(body) {
		return s.handOver()
	}
	return body
}

// handOver returns a reader over the payload, which is kept for no other.
func (s *Source) handOver() *Reader {
	r := new(Reader)
	s.Init(r)
	s.data = nil
	return r
}

// take makes the payload what r, which is closed, would have read on.
func (s *Source) take(r *Reader) bool {
	of := r.source
	of.mu.Lock()
	defer of.mu.Unlock()
	if r.closed || of.returned {
		return false
	}
	s.data = r.rest
	if of.lasting {
		s.lent = true
	} else {
		s.outer = of
	}
	r.closed, r.rest = true, nil
	return true
}

// What io.NopCloser makes, and http.NewRequest by it: nobody hears of its Close.
var (
	nopCloser         = reflect.TypeOf(io.NopCloser(nil))
	nopCloserWriterTo = reflect.TypeOf(io.NopCloser(new(bytes.Reader)))
)

// borrow makes the payload what is left of a body in memory, of which it leaves
// nothing. It reports false, and does nothing, for all other bodies.
//
// The bytes are not copied. Who sends a body that does not tell of its Close
// can't use them for anything else until the response's body is closed, which is
// as long as net/http asks for, too. They are read no longer than that.
func (s *Source) borrow(body io.ReadCloser) bool {
	if t := reflect.TypeOf(body); t != nopCloser && t != nopCloserWriterTo {
		return false
	}
	switch b := reflect.ValueOf(body).Field(0).Interface().(type) {
	case *bytes.Buffer:
		s.data = b.Next(b.Len())
	case *bytes.Reader:
		_, _ = b.WriteTo((*borrower)(s))
	default:
		return false
	}
	s.lent = true
	return true
}

// A borrower is a Source that a bytes.Reader writes itself to.
type borrower Source

// Write keeps p itself, which is what the bytes.Reader reads from. It gives all of
// that at once; should it ever come in parts, they are put together.
func (b *borrower) Write(p []byte) (int, error) {
	if b.data == nil {
		b.data = p
	} else {
		b.data = append(slices.Clip(b.data), p...)
	}
	return len(p), nil
}
