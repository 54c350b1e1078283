package openai

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"
)

// maxModel bounds the model's name where it becomes part of a key or a label.
const maxModel = 128

// maxNames bounds the names that are kept; others are made anew each time.
const maxNames = 256

// names are those of the models that were met: every call names one, and most
// of them the same few.
var names struct {
	known atomic.Pointer[map[string]string] // replaced, not changed
	mu    sync.Mutex
}

// modelName returns the model's name that a JSON string stands for, bounded;
// "" if it is none.
func modelName(value []byte) string {
	known := knownNames()
	if name, ok := known[string(value)]; ok {
		return name
	}
	name := bounded(text(value))
	if name != "" && len(value) <= maxModel && len(known) < maxNames {
		keepName(string(value), name)
	}
	return name
}

func knownNames() map[string]string {
	if known := names.known.Load(); known != nil {
		return *known
	}
	return nil
}

// keepName keeps one more name, if there is room: others may have been faster.
func keepName(value, name string) {
	names.mu.Lock()
	defer names.mu.Unlock()
	known := knownNames()
	if len(known) >= maxNames {
		return
	}
	all := make(map[string]string, len(known)+1)
	maps.Copy(all, known)
	all[value] = name
	names.known.Store(&all)
}

// bounded cuts the name of a model.
func bounded(model string) string {
	if len(model) > maxModel {
		return strings.ToValidUTF8(model[:maxModel], "")
	}
	return model
}
