package main

import (
	"net/http"
	"time"

	retrip "github.com/retrip-go/retrip/openai"
)

// The keys of the providers. Each answers its own only.
const (
	homeKey   = "key-of-home"
	secondKey = "key-of-second"
)

// withSecond is a chain that may go to a second provider, as soon as the first is
// silent for two seconds: before its answer or in its midst.
func withSecond(url string) retrip.Config {
	return retrip.Config{
		Delivery:          retrip.Whole,
		FirstEventTimeout: 2 * time.Second,
		IdleTimeout:       2 * time.Second,
		Targets: []retrip.Target{
			{},
			{Name: "second", BaseURL: url + "/v1", Header: http.Header{"Authorization": {"Bearer " + secondKey}}, Tier: 1},
		},
	}
}

// Something happens to the first of two providers, or to the proxy before it.
func failoverScenes() []scene {
	var all []scene
	for _, pair := range []struct {
		name     string
		home     proxy
		shedding proxy
		second   proxy
		http2    bool
	}{
		{"HTTP/2: HAProxy, nginx as second", haproxy{}, haproxy{defaults: "timeout queue 100ms", server: "maxconn 4"}, nginx{}, true},
		{"nginx, HAProxy as second", nginx{}, limitReq("burst=10 nodelay", ""), haproxy{}, false},
	} {
		for _, row := range []struct {
			name    string
			home    proxy
			happens incident
		}{
			{"the provider is killed", pair.home, killProvider},
			{"the provider freezes", pair.home, stopProvider},
			{"the provider restarts", pair.home, restartProvider},
			{"the proxy sheds", pair.shedding, nil},
			{"the proxy restarts", pair.home, restartProxy},
			{"the proxy reloads", pair.home, reloadProxy},
		} {
			all = append(all, scene{
				name: pair.name + ": " + row.name, proxy: row.home, http2: pair.http2, second: pair.second, happens: row.happens,
				callers: 16, calls: 12, plan: asked(30*ms, 2*ms),
			})
		}
	}
	return all
}
