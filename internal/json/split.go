package json

// What is kept of a key and of a value that are not complete: one byte more than is
// reported shows that there is more.
const (
	maxRawKey   = len(`""`) + MaxKey + 1
	maxRawValue = MaxValue + 1
)

// keep appends a piece to buf, as far as limit lets it. The rest is dropped: a value that
// long is reported as cut, and a key that long is none that is asked for.
func keep(buf, piece []byte, limit int) []byte {
	return append(buf, piece[:min(len(piece), limit-len(buf))]...)
}

// hold keeps what the piece has of a value that goes on in the next one, with its
// key. It returns false, as there is nothing to report.
func (s *Scanner) hold(start int, in state) bool {
	s.valueBuf = keep(s.valueBuf[:0], s.fed[start:], maxRawValue)
	s.unfinished(start+1, in)
	s.holdKey()
	return false
}

// awaitsValue reports whether a key was read whose value is not complete.
func (s *Scanner) awaitsValue() bool { return colon <= s.state && s.state <= inLiteral }

// holdKey moves such a key to where the next Feed leaves it alone. A key whose value is
// complete has been reported, and is not needed any more.
func (s *Scanner) holdKey() {
	if s.awaitsValue() && s.key != nil {
		s.keyBuf = keep(s.keyBuf[:0], s.key, maxRawKey)
		s.key = s.keyBuf
	}
}

// resume goes on with what the piece before has ended in, or behind what was
// reported. It reports whether that completes a value.
func (s *Scanner) resume() bool {
	start := s.at
	if start == len(s.fed) && !s.ended {
		return false
	}
	switch s.state {
	case inKey:
		ok := s.resumeString()
		s.keyBuf = keep(s.keyBuf, s.fed[start:s.at], maxRawKey)
		if ok {
			s.key, s.state = s.keyBuf, colon
		}
	case inString:
		ok := s.resumeString()
		s.valueBuf = keep(s.valueBuf, s.fed[start:s.at], maxRawValue)
		return ok && s.scalar(s.valueBuf, s.at)
	case inLiteral:
		end, ok := s.endOfLiteral()
		s.valueBuf = keep(s.valueBuf, s.fed[start:end], maxRawValue)
		s.at = end
		return ok && s.literal(s.valueBuf, end)
	case reported:
		s.nested = 1
		s.pass()
	case passingString:
		if s.resumeString() {
			s.pass()
		}
	case passing:
		s.pass()
	}
	return false
}

// resumeString passes over the rest of a string that has begun in a piece before,
// and reports whether it ends. If the piece before has ended in a backslash, the first
// byte of this one can't end the string.
func (s *Scanner) resumeString() bool {
	from := s.at
	if s.escaped {
		from = min(from+1, len(s.fed))
	}
	end, ok := endOfAnyString(s.fed, from)
	if !ok {
		return s.unfinished(from, s.state)
	}
	s.at = end
	return true
}

// unfinished notes that the piece ends in something that goes on in the next one,
// and whose inside begins at from. It returns false, as there is nothing to report.
func (s *Scanner) unfinished(from int, in state) bool {
	s.escaped = endsInEscape(s.fed[from:])
	s.at, s.state = len(s.fed), in
	return false
}
