// Package sse reads server-sent events from bytes in flight.
package sse

// A Scanner finds the events in a stream that is fed to it piece by piece; see
// WHATWG HTML, section 9.2.6. It observes: it never alters or keeps what it is
// fed, but for the event not yet complete. The zero value is ready to use. It
// is not safe for concurrent use.
type Scanner struct{}

// Feed hands the Scanner the next bytes of the stream. Call Next until it
// returns false before the next Feed; p is not kept after that.
func (s *Scanner) Feed(p []byte) {}

// Next moves to the next complete event and reports whether there was one.
func (s *Scanner) Next() bool { return false }

// Name returns the event's name, empty if it had none. The bytes are valid
// until the next call of Next or Feed.
func (s *Scanner) Name() []byte { return nil }

// Data returns the event's data, its lines joined by \n. The bytes are valid
// until the next call of Next or Feed.
func (s *Scanner) Data() []byte { return nil }
