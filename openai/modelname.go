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
// "" if it is none.
func modelName(value []byte) string {
	if len(value) > maxModel {
		return bounded(json.Text(value))
	}
	place := &names[maphash.Bytes(seed, value)%maxNames]
	if known := place.Load(); known != nil && known.value == string(value) {
		return known.name
	}
	made := &knownName{string(value), bounded(json.Text(value))}
	place.Store(made)
	return made.name
}

// bounded cuts the name of a model.
func bounded(model string) string {
	if len(model) > maxModel {
		return strings.ToValidUTF8(model[:maxModel], "")
	}
	return model
}
