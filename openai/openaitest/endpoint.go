package openaitest

import (
	"net/http"
	"strings"
)

// The endpoints. They are known by the end of the path, whatever stands
// before: /v1, a gateway's prefix, Azure's /openai/deployments/NAME.
const (
	Chat        = "chat"        // POST chat/completions
	Completions = "completions" // POST completions
	Embeddings  = "embeddings"  // POST embeddings
	Files       = "files"       // POST files
	Messages    = "messages"    // POST messages with an anthropic-version header: Anthropic's
	Models      = "models"      // GET models, models/NAME
	Moderations = "moderations" // POST moderations
	Responses   = "responses"   // POST responses; GET responses/ID and POST responses/ID/cancel
	Other       = "other"       // anything else: 404, unless scripted
)

// endpointOf returns the endpoint of a request. It has no part of package openai's table,
// which it serves to test.
func endpointOf(path string, header http.Header) string {
	path = strings.TrimSuffix(path, "/")
	switch {
	case strings.HasSuffix(path, "/chat/completions"):
		return Chat
	case strings.HasSuffix(path, "/models"), strings.Contains(path, "/models/"):
		return Models
	case responseID(path) != "":
		return Responses
	}
	tail := path[strings.LastIndexByte(path, '/')+1:]
	switch tail {
	case Messages:
		// Other services have messages, too; only Anthropic's clients send its version.
		if header.Get("Anthropic-Version") == "" {
			return Other
		}
		return tail
	case Completions, Embeddings, Files, Moderations, Responses:
		return tail
	default:
		return Other
	}
}
