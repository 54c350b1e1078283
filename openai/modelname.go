package openai

import (
	"hash/maphash"
	"math/rand/v2"
	"strings"
	"sync/atomic"

	"github.com/retrip-go/retrip/internal/json"
)

// maxModel bounds the model's name where it becomes part of a key or a label. Names of
// models are shorter: the longest ones are those of fine-tuned models.
const maxModel = 128

// maxNames bounds the names that are kept.
const maxNames = 256

// namesTogether is how many names of one hash are kept. A call names two models,
// the one that was asked for and the one that answers: they must not take each
// other's place for as long as the process lives.
const namesTogether = 4

// names are those of models that calls have named lately. Every call names one, and
// most of them the same few, so that the copy of a name is made once. The table is
// global, since names hold nothing of a call, and is bounded, since callers invent them.
var names [maxNames / namesTogether][namesTogether]atomic.Pointer[knownName]

type knownName struct{ value, name string }

var seed = maphash.MakeSeed()

// modelName returns the model's name that a JSON string stands for, bounded;
// "" if it is none. It is always a copy: a part of the payload would keep all
// of it in memory for as long as a breaker or a label has the name.
func modelName(value []byte) string {
	if len(value) > maxModel {
		return bounded(value)
	}
	places := &names[maphash.Bytes(seed, value)%uint64(len(names))]
	free := -1
	for i := range places {
		switch known := places[i].Load(); {
		case known == nil:
			free = i
		case known.value == string(value):
			return known.name
		}
	}
	if free < 0 {
		free = rand.IntN(namesTogether) // any fixed choice could drop a name that is in use each time
	}
	made := &knownName{string(value), bounded(value)}
	places[free].Store(made)
	return made.name
}

// bounded returns the beginning of a name that is too long to be looked up. One
// that is longer than any name with escapes could be has them as written: no model has
// such a name, and it only has to be the same each time.
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
