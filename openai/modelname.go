package openai

import (
	"hash/maphash"
	"strings"
	"sync/atomic"

	"github.com/retrip-go/retrip/internal/json"
)

// maxModel bounds the model's name where it becomes part of a key or a label.
const maxModel = 128

// maxNames bounds the names that are kept.
const maxNames = 256

// names are those of models that were met lately: every call names one, and
// most of them the same few. A name has one place, and takes it from another.
var names [maxNames]atomic.Pointer[knownName]

type knownName struct{ value, name string }

var seed = maphash.MakeSeed()

// modelName returns the model's name that a JSON string stands for, bounded;
// "" if it is none. It is always a copy: a part of the payload would keep all
// of it in memory for as long as a breaker or a label has the name.
func modelName(value []byte) string {
	if len(value) > maxModel {
		return bounded(value)
	}
	place := &names[maphash.Bytes(seed, value)%maxNames]
	if known := place.Load(); known != nil && known.value == string(value) {
		return known.name
	}
	made := &knownName{string(value), bounded(value)}
	place.Store(made)
	return made.name
}

// bounded returns the beginning of a name that is too long to be looked up. One
// that is longer than any name with escapes could be has them as written: it is
// nobody's, and only has to be the same each time.
func bounded(value []byte) string {
	name := string(value[:min(len(value), 6*maxModel)])
	if len(name) == len(value) {
		name = json.Text(value)
	} else {
		name = strings.TrimPrefix(name, `"`)
	}
	if len(name) <= maxModel {
		return name
	}
	return strings.Clone(strings.ToValidUTF8(name[:maxModel], ""))
}
