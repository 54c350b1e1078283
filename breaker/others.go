package breaker

// quorum is the number of other origins whose advice opens a breaker that has not
// been served for 5 s, without a failure of its own.
const quorum = 2

// An others has the origins that advise a breaker: the two whose advice lasts the
// longest, that one first. More than a quorum need not be known. The zero value has none.
type others [quorum]adviser

type adviser struct {
	origin string
	until  int64
}

// add takes advice. An origin's shorter advice does not undo its longer one.
func (o *others) add(origin string, until int64) {
	at := len(o) - 1 // who gives way
	for i, a := range o {
		if a.until != 0 && a.origin == origin {
			at = i
		}
	}
	if until <= o[at].until {
		return
	}
	o[at] = adviser{origin, until}
	for ; at > 0 && o[at].until > o[at-1].until; at-- {
		o[at], o[at-1] = o[at-1], o[at]
	}
}

// wary reports whether any advice still holds.
func (o *others) wary(now int64) bool { return o[0].until > now }

// agreed returns until when a quorum advises, 0 if there is none.
func (o *others) agreed() int64 { return o[len(o)-1].until }
