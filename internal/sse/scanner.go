// Package sse reads server-sent events from bytes in flight. It copies nothing
// but events that are cut in pieces, so that watching a stream costs next to
// nothing and delays no byte.
package sse

import "bytes"

// MaxLine is the length in bytes of the longest line, and of the longest data
// of one event, that a Scanner parses. It bounds what a Scanner keeps.
const MaxLine = 1 << 20

var bom = []byte("\ufeff")

// A Scanner finds the events in a stream that is fed to it piece by piece; see
// WHATWG HTML, section 9.2.6. It observes: it never alters or keeps what it is
// fed, but for the event not yet complete. The zero value is ready to use. It
// is not safe for concurrent use.
//
// An event is reported at the line end that completes it, without waiting for
// what follows. The fields id and retry are passed over. A field named error,
// which the standard does not know and llama.cpp sends, stands for an event of
// that name.
type Scanner struct {
	fed    []byte // as handed to Feed; nil once it is used up
	pos    int    // start in fed of what Next has not looked at
	lf, cr int    // first line ends in fed at or behind pos, len(fed) if none; stale if before pos

	line []byte // the fed part of a line whose end was not fed yet

	// The event being put together. Its bytes lie in fed or in line as long
	// as those stand, in the two buffers after that.
	name, data       []byte
	nameBuf, dataBuf []byte

	limit int // MaxLine if 0; tests use less

	started   bool // a line has ended: no byte order mark can follow
	afterCR   bool // a \n that comes now belongs to the line end before it
	skip      bool // the rest of the line is of no interest
	begun     bool // the event has a field
	hasData   bool // the event has a data field
	oversize  bool // the event has more than may be kept
	dropData  bool // that is its data
	nameKept  bool // name lies in nameBuf
	dataKept  bool // data lies in dataBuf
	delivered bool // the event was reported: the next one begins
}

// Feed hands the Scanner the next bytes of the stream. Call Next until it
// returns false before the next Feed; p is not kept after that.
func (s *Scanner) Feed(p []byte) {
	s.fed, s.pos, s.lf, s.cr = p, 0, -1, -1
}

// Next moves to the next complete event and reports whether there was one.
func (s *Scanner) Next() bool {
	if s.delivered {
		s.reset()
	}
	for s.pos < len(s.fed) {
		if s.afterCR {
			s.afterCR = false
			if s.fed[s.pos] == '\n' {
				s.pos++
				continue
			}
		}
		end := s.lineEnd()
		if end == len(s.fed) {
			break
		}
		piece := s.fed[s.pos:end]
		s.afterCR = s.fed[end] == '\r'
		s.pos = end + 1
		if s.endLine(piece) {
			s.delivered = true
			return true
		}
	}
	s.keepEvent()
	s.keepLine(s.fed[s.pos:])
	s.fed, s.pos = nil, 0
	return false
}

// Name returns the event's name, empty if it had none. The bytes are valid
// until the next call of Next or Feed.
func (s *Scanner) Name() []byte { return s.name }

// Data returns the event's data, its lines joined by \n. The bytes are valid
// until the next call of Next or Feed. An event with a data field has data,
// be it empty; one without is not an event.
func (s *Scanner) Data() []byte { return s.data }

// Oversize reports whether the event has a line, or data, longer than MaxLine.
// What was too long is left out: Data is empty, and Name is if it was the name.
func (s *Scanner) Oversize() bool { return s.oversize }

// Pending reports, after Next returned false, whether the stream has begun an
// event that it has not completed: anything but comments and blank lines. At
// the end of a stream the standard drops such an event. To see it all the
// same, feed "\n\n".
func (s *Scanner) Pending() bool {
	line := s.line
	if !s.started {
		line = bytes.TrimPrefix(line, bom)
	}
	return s.begun || len(line) > 0 && line[0] != ':'
}

// lineEnd returns the index in fed of the next line end, len(fed) if there is
// none. Both positions are remembered, so that every byte is searched once for
// each of the two, whatever the mixture.
func (s *Scanner) lineEnd() int {
	if s.lf < s.pos {
		s.lf = s.find('\n')
	}
	if s.cr < s.pos {
		s.cr = s.find('\r')
	}
	return min(s.lf, s.cr)
}

// find returns the first index of c in fed from pos on, len(fed) if there is none.
func (s *Scanner) find(c byte) int {
	if i := bytes.IndexByte(s.fed[s.pos:], c); i >= 0 {
		return s.pos + i
	}
	return len(s.fed)
}

// endLine takes the last piece of a line and reports whether the line
// completed an event. A blank line does, if there was a data field. Without one the
// standard has the event dropped, with its name.
func (s *Scanner) endLine(piece []byte) bool {
	line := piece
	if len(s.line) > 0 || s.skip {
		if s.tooLong(piece) {
			s.keepLine(piece)
		}
		if s.skip {
			s.skip = false
			return false
		}
		s.line = append(s.line, piece...)
		// Emptied, but overwritten only after keepEvent.
		line, s.line = s.line, s.line[:0]
	}
	if len(line) > 0 {
		s.field(line, s.tooLong(line))
		return false
	}
	s.started = true
	if s.hasData {
		return true
	}
	s.reset()
	return false
}

// field adds a line to the event. Of a line that is too long only the start
// is looked at, by which the field is known. A byte order mark may stand before the
// first line of a stream alone.
func (s *Scanner) field(line []byte, tooLong bool) {
	if !s.started {
		s.started = true
		line = bytes.TrimPrefix(line, bom)
		if len(line) == 0 {
			return
		}
	}
	if line[0] == ':' {
		return
	}
	s.begun = true
	if value, ok := fieldValue(line, "data"); ok {
		s.addData(value, tooLong)
	} else if value, ok := fieldValue(line, "event"); ok {
		if tooLong {
			s.oversize = true
			value = nil
		}
		s.name, s.nameKept = value, false
	} else if value, ok := fieldValue(line, "error"); ok {
		s.name, s.nameKept = errorName, false
		s.addData(value, tooLong)
	}
}

// errorName is the name of an event that an error field makes.
var errorName = []byte("error")

// fieldValue returns the value of a line if its field is called name. One space
// after the colon is no part of it; a line without a colon is a field without a
// value.
func fieldValue(line []byte, name string) (value []byte, ok bool) {
	if len(line) < len(name) || string(line[:len(name)]) != name {
		return nil, false
	}
	value = line[len(name):]
	if len(value) == 0 {
		return value, true
	}
	if value[0] != ':' {
		return nil, false
	}
	value = value[1:]
	if len(value) > 0 && value[0] == ' ' {
		value = value[1:]
	}
	return value, true
}

// addData adds a data field to the event. Once that has become too long all of its
// data is dropped: half of it would be mistaken for the whole.
func (s *Scanner) addData(value []byte, tooLong bool) {
	switch {
	case s.dropData:
	case tooLong, s.hasData && len(s.data)+1+len(value) > s.max():
		s.oversize, s.dropData = true, true
		s.data, s.dataKept = nil, true
	case !s.hasData:
		s.data, s.dataKept = value, false
	default:
		s.keepData()
		s.dataBuf = append(append(s.dataBuf, '\n'), value...)
		s.data = s.dataBuf
	}
	s.hasData = true
}

// keepEvent moves what the event has so far to where the next Feed leaves it
// alone.
func (s *Scanner) keepEvent() {
	if s.hasData {
		s.keepData()
	}
	if s.name != nil && !s.nameKept {
		s.nameBuf = append(s.nameBuf[:0], s.name...)
		s.name, s.nameKept = s.nameBuf, true
	}
}

// keepData copies the event's data into the Scanner's own buffer, which is used
// again for the next event.
func (s *Scanner) keepData() {
	if !s.dataKept {
		s.dataBuf = append(s.dataBuf[:0], s.data...)
		s.data, s.dataKept = s.dataBuf, true
	}
}

// keepLine keeps a piece of a line that has not ended, unless it is of no use: the rest
// of a comment, or of a line that is too long.
func (s *Scanner) keepLine(piece []byte) {
	switch {
	case s.skip || len(piece) == 0:
	case len(s.line) == 0 && piece[0] == ':':
		s.skip, s.started = true, true
	case s.tooLong(piece):
		// Enough to know the field by: a byte order mark, "event:" and some.
		s.line = append(s.line, piece[:min(len(piece), 16)]...)
		s.field(s.line, true)
		s.line = s.line[:0]
		s.skip = true
	default:
		s.line = append(s.line, piece...)
	}
}

// tooLong reports whether a line with this piece at its end is longer than may be kept.
func (s *Scanner) tooLong(piece []byte) bool { return len(s.line)+len(piece) > s.max() }

// max returns the longest length of a line and of an event's data.
func (s *Scanner) max() int {
	if s.limit > 0 {
		return s.limit
	}
	return MaxLine
}

// reset begins another event.
func (s *Scanner) reset() {
	s.name, s.data = nil, nil
	s.begun, s.hasData, s.oversize, s.dropData = false, false, false, false
	s.nameKept, s.dataKept, s.delivered = false, false, false
}
