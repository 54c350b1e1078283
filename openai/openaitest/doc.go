// Package openaitest provides a fake OpenAI-compatible provider for tests, as
// net/http/httptest provides servers: it answers in the real wire format, and
// goes wrong on demand.
//
//	srv := openaitest.NewServer()
//	defer srv.Close()
//	srv.Script(openaitest.Chat,
//		openaitest.Status(503),
//		openaitest.Status(429).With("Retry-After", "1"),
//		openaitest.OK().CutAfter(3), // the third event is the last
//	)
//	client := openai.NewClient(option.WithBaseURL(srv.URL), option.WithHTTPClient(…))
//
// A test of a fail-over has two servers, each at the base URL of its target; one dies
// by its Close, or fails by [Server.Always]. Waits are short with a Retry.Backoff of
// few milliseconds in the Config.
//
// Each request takes the next answer of its endpoint's script. Without one it
// gets the healthy answer: chat (streamed or not, with usage and tool calls),
// responses, completions, embeddings, moderations, models and file uploads; and
// Anthropic's messages (streamed or not, with usage and tools). Ids, times and
// texts are always the same, but the ids of responses in the background are
// numbered.
//
// A response in the background is kept by its id, with all its events, however
// much of its stream was sent: GET responses/ID returns it, with ?stream=true the
// events after starting_after, and POST responses/ID/cancel cancels it.
//
// An [Answer] is a value. A literal says what is answered and how fast, and its
// methods return a copy that goes wrong at some point. The server records every
// request ([Server.Requests]), and counts the clients that went away before the end
// of an answer ([Server.Abandoned]).
package openaitest
