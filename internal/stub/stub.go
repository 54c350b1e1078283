// Package stub has the base RoundTrippers, responses and bodies that tests put
// in place of a network.
package stub

import "net/http"

// A Func is a base made of a function.
type Func func(*http.Request) (*http.Response, error)

// RoundTrip calls f.
func (f Func) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
