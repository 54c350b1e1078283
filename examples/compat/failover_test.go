package compat

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	retrip "github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
)

const (
	keyOfSecond = "key-of-second"
	ofHome      = "secret-of-home"
)

// A pair is two providers, and a chain that goes to the second where home fails.
type pair struct {
	home, second *openaitest.Server
	client       *http.Client
}

func newPair(t *testing.T, cfg retrip.Config) *pair {
	t.Helper()
	second := openaitest.NewServer()
	t.Cleanup(second.Close)
	cfg.Targets = []retrip.Target{
		{},
		{Name: "second", BaseURL: second.URL, Header: http.Header{"Authorization": {"Bearer " + keyOfSecond}, "X-Api-Key": {keyOfSecond}}, Tier: 1},
	}
	s := newScene(t, cfg)
	return &pair{s.provider, second, &http.Client{Transport: secretive{s.client.Transport}}}
}

// A secretive service adds credentials of many a kind to what an SDK sends.
type secretive struct{ base http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (s secretive) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	for _, name := range []string{"Cookie", "OpenAI-Organization", "OpenAI-Project", "Api-Key", "X-Goog-Api-Key", "Proxy-Authorization", "X-Amz-Security-Token", "X-Of-The-Service"} {
		req.Header.Set(name, ofHome)
	}
	return s.base.RoundTrip(req)
}

// leaks returns what a provider has seen of the credentials of another.
func leaks(requests []openaitest.Request) (all []string) {
	for _, r := range requests {
		for name, values := range r.Header {
			value := strings.Join(values, " ")
			if strings.Contains(value, ofHome) || strings.Contains(value, "sk-test") || strings.Contains(value, "sk-ant-test") {
				all = append(all, name)
			}
		}
		if r.Header.Get("Authorization") != "Bearer "+keyOfSecond {
			all = append(all, "another key than its own")
		}
	}
	return all
}

// chats are uses that may go to another provider, and whose answers are of many
// events: a tool's call is said in two.
var chats = slices.DeleteFunc(slices.Concat(uses, messageUses), func(u use) bool {
	return u.endpoint != openaitest.Chat && u.endpoint != openaitest.Messages || strings.Contains(u.name, "/tools")
})

func (u use) isStream() bool { return strings.HasSuffix(u.name, " stream") }

func TestWhatAnSDKSeesIsWhatTheSecondProviderSays(t *testing.T) {
	t.Parallel()
	ok := openaitest.OK()
	for _, row := range []struct {
		fault  string
		answer openaitest.Answer // of home, always
		asked  int               // home, before the second
		whole  bool              // of a stream only Whole can take it back
	}{
		{"refuses", ok, 0, false}, // its port is closed
		{"reset before headers", openaitest.ResetBeforeHeaders(), 1, false},
		{"silent", openaitest.StallBeforeHeaders(), 1, false},
		{"500", openaitest.Status(500), 2, false},
		{"503", openaitest.Status(503), 1, false},
		{"503 that says when", openaitest.Status(503).With("Retry-After", "50"), 1, false},
		{"its limit", openaitest.Status(429).With("Retry-After", "50"), 1, false},
		{"its quota", openaitest.Error(429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota."), 1, false},
		{"broken at once", ok.EndAfter(1), 1, false},
		{"cut amid the answer", ok.CutAfter(5), 1, true},
		{"falls silent amid the answer", ok.StallAfter(5), 1, true},
	} {
		for _, u := range chats {
			for _, delivery := range []retrip.Delivery{retrip.FromFirstEvent, retrip.Whole} {
				if row.whole && u.isStream() && delivery != retrip.Whole {
					continue
				}
				t.Run(row.fault+"/"+u.name+"/"+delivery.String(), func(t *testing.T) {
					t.Parallel()
					cfg := retrip.Config{Delivery: delivery}
					switch row.fault {
					case "silent":
						cfg.FirstEventTimeout = silence
					case "falls silent amid the answer":
						cfg.IdleTimeout = silence
					}
					p := newPair(t, cfg)
					p.second.Always(u.endpoint, openaitest.Say("So says the second."))
					want := u.outcome(t, p.second.URL, p.second.Client())
					before := p.second.Count(u.endpoint)
					p.home.Always(u.endpoint, row.answer)
					if row.fault == "refuses" {
						p.home.Close()
					}
					if got := u.outcome(t, p.home.URL, p.client); got != want || want.err != "no error" {
						t.Errorf("%+v\nthe second says:\n%+v", got, want)
					}
					if home, second := len(p.home.Requests()), p.second.Count(u.endpoint)-before; home != row.asked || second != 1 {
						t.Errorf("%d requests at home, want %d; %d at the second", home, row.asked, second)
					}
					if found := leaks(p.second.Requests()[before:]); found != nil {
						t.Errorf("the second has seen %v", found)
					}
				})
			}
		}
	}
}

// What a caller has seen of a stream nobody can take back.
func TestAStreamThatBreaksAfterContentGoesNowhereElse(t *testing.T) {
	t.Parallel()
	for _, u := range chats {
		if !u.isStream() {
			continue
		}
		t.Run(u.name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, retrip.Config{})
			p.home.Always(u.endpoint, openaitest.OK().CutAfter(6))
			want := u.outcome(t, p.home.URL, p.home.Client())
			if got := u.outcome(t, p.home.URL, p.client); got != want || want.err == "no error" || len(p.second.Requests()) != 0 {
				t.Errorf("%+v\nwithout the chain:\n%+v; %d requests at the second", got, want, len(p.second.Requests()))
			}
		})
	}
}

func TestTheCallersOwnMistakesStayHome(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]openaitest.Answer{
		"400": openaitest.Status(400),
		"401": openaitest.Status(401),
		"403": openaitest.Status(403),
		"404": openaitest.Status(404),
		"422": openaitest.Status(422),
	} {
		for _, u := range chats {
			t.Run(name+"/"+u.name, func(t *testing.T) {
				t.Parallel()
				p := newPair(t, retrip.Config{Delivery: retrip.Whole})
				p.home.Always(u.endpoint, answer)
				want := u.outcome(t, p.home.URL, p.home.Client())
				if got := u.outcome(t, p.home.URL, p.client); got != want || len(p.second.Requests()) != 0 {
					t.Errorf("%+v\nwithout the chain:\n%+v; %d requests at the second", got, want, len(p.second.Requests()))
				}
			})
		}
	}
}

// A redirect that http.Client saw, it would follow with the caller's credentials.
func TestAnSDKNeverFollowsARedirectOfTheSecond(t *testing.T) {
	t.Parallel()
	for _, code := range []int{301, 302, 303, 307, 308} {
		for _, where := range []string{"absolute", "relative"} {
			for _, u := range chats {
				t.Run(http.StatusText(code)+"/"+where+"/"+u.name, func(t *testing.T) {
					t.Parallel()
					p, third := newPair(t, retrip.Config{}), openaitest.NewServer()
					defer third.Close()
					to := third.URL + "/chat/completions"
					if where == "relative" {
						to = "/v1/elsewhere"
					}
					p.home.Always(u.endpoint, openaitest.Status(503))
					p.second.Always(u.endpoint, openaitest.Answer{Status: code, Body: []byte{}}.With("Location", to))
					want := u.outcome(t, p.home.URL, p.home.Client())
					if got := u.outcome(t, p.home.URL, p.client); got != want {
						t.Errorf("%+v\nhome says:\n%+v", got, want)
					}
					if second := len(p.second.Requests()); second != 1 || len(third.Requests()) != 0 {
						t.Errorf("%d requests at the second, %d where it sends to", second, len(third.Requests()))
					}
					if found := leaks(p.second.Requests()); found != nil {
						t.Errorf("the second has seen %v", found)
					}
				})
			}
		}
	}
}

// The SDK, which retries too, gets what home has said, and leaves it at that.
func TestSDKRetriesDoNotMultiplyTheAttemptsAtTwoProviders(t *testing.T) {
	t.Parallel()
	p := newPair(t, retrip.Config{})
	p.home.Always(openaitest.Chat, openaitest.Status(503))
	p.second.Always(openaitest.Chat, openaitest.Status(502))
	if err := askRetrying(t.Context(), p.home.URL, p.client); kind(err) != "HTTP Service Unavailable" {
		t.Errorf("error %v", err)
	}
	if home, second := len(p.home.Requests()), len(p.second.Requests()); home != 2 || second != 2 {
		t.Errorf("%d requests at home and %d at the second, want two each", home, second)
	}
}
