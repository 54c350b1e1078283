package openai

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// storedUnder are the collections whose POSTs leave something behind, be it
// under an "audio" or an "images" of a gateway's.
var storedUnder = []string{"responses", "files", "uploads", "batches", "threads", "conversations", "vector_stores", "models"}

// repeatsByTheRules reads DESIGN's table of endpoints by the last two segments.
func repeatsByTheRules(path string, anthropic bool) bool {
	segments := strings.Split(strings.TrimSuffix(path, "/"), "/")
	tail, parent := segments[len(segments)-1], ""
	if len(segments) > 1 {
		parent = segments[len(segments)-2]
	}
	switch tail {
	case "embeddings", "moderations", "rerank", "score", "completions": // chat/completions too
		return true
	case "messages":
		if anthropic {
			return true
		}
	}
	return (parent == "images" || parent == "audio") && !slices.Contains(storedUnder, tail)
}

// FuzzEndpointOf: the tail of a path decides, whatever stands before it, for
// messages with a header, and a deployment's name is read as it is written.
func FuzzEndpointOf(f *testing.F) {
	for _, path := range []string{
		"/v1/chat/completions", "/v1/chat/completions/", "/v1/completions", "/openai/deployments/gpt-4o/embeddings", "/v1/responses", "/v1/responses/resp_1",
		"/v1/images/edits", "/v1/audio/speech", "/audio/responses", "/images/files/", "/v1/files/file-1", "/v1/models/embeddings", "/v1/moderations//",
		"/deployments/", "/deployments//x", "/deployments/\xff/score", "/v1/rerank", "score", "", "/", "//", "audio/", "/images", "/Chat/Completions", "/v1/messages", "/v1/threads/thread_1/messages", "/messages/", "/v1/messages/batches", "/chat%2Fcompletions",
	} {
		f.Add(path, "/gateway/v1")
	}
	names := map[string]bool{otherEndpoint.name: true}
	for _, e := range endpoints {
		names[e.name] = true
	}
	f.Fuzz(func(t *testing.T, path, prefix string) {
		for _, header := range []http.Header{{}, {"Anthropic-Version": {"2023-06-01"}}} {
			of := func(path string) *endpoint {
				return endpointOf(&http.Request{URL: &url.URL{Path: path}, Header: header})
			}
			e := of(path)
			if !names[e.name] || e.operation == "" || e.repeat && !e.inspect || e.format.isJudged() && !e.inspect {
				t.Errorf("%q is named %+v", path, e)
			}
			if want := repeatsByTheRules(path, len(header) > 0); e.repeat != want {
				t.Errorf("%q (%s): repeat is %v, want %v", path, e.name, e.repeat, want)
			}
			// The two last segments are all that counts.
			if strings.Count(strings.TrimSuffix(path, "/"), "/") > 1 && of(prefix+path) != e {
				t.Errorf("%q is %+v, behind %q it is %+v", path, e, prefix, of(prefix+path))
			}
		}
		if want := deploymentBySegments(path); deployment(path) != want {
			t.Errorf("%q: deployment %q, want %q", path, deployment(path), want)
		}
	})
}

// deploymentBySegments returns the segment behind the first "deployments", if
// it is not the last one.
func deploymentBySegments(path string) string {
	segments := strings.Split(path, "/")
	for i := 1; i+2 < len(segments); i++ {
		if segments[i] == "deployments" {
			if name := segments[i+1]; len(name) <= maxModel {
				return strings.ToValidUTF8(name, "\uFFFD")
			}
			break
		}
	}
	return ""
}
