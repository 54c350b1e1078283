package contract

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// A site is a real server and the wrapper over a real transport to it.
type site struct {
	*scene
	host, scheme string
	rt           http.RoundTripper
	conns        atomic.Int32 // the server has seen
}

func (st *site) request(k kind, body io.ReadCloser, length int64) *http.Request {
	req := st.scene.request(k, body, length)
	req.URL = &url.URL{Scheme: st.scheme, Host: st.host, Path: k.path}
	return req
}

// trip makes a call whose response must come.
func (st *site) trip(req *http.Request) (*http.Response, error) {
	var resp *http.Response
	var err error
	if late := st.within(st.soon, "RoundTrip", func() { resp, err = st.rt.RoundTrip(req) }); late != nil {
		return nil, late
	}
	return resp, err
}

// online checks f against a handler that is served over one version of HTTP.
func (x *exam) online(http2 bool, handler http.HandlerFunc, f func(st *site) error) error {
	return x.awake(func(s *scene) (err error) {
		st := &site{scene: s}
		srv := httptest.NewUnstartedServer(handler)
		srv.EnableHTTP2 = http2
		srv.Config.ConnState = func(conn net.Conn, state http.ConnState) {
			if state != http.StateNew {
				return
			}
			st.conns.Add(1)
			if tcp, ok := conn.(*net.TCPConn); ok {
				tcp.SetReadBuffer(smallBuffer) //nolint:errcheck // then it is larger
			}
		}
		if http2 {
			srv.StartTLS()
		} else {
			srv.Start()
		}
		u, err := url.Parse(srv.URL)
		if err != nil {
			return err
		}
		base := srv.Client().Transport.(*http.Transport)
		base.DialContext = dialSmall
		st.host, st.scheme, st.rt = u.Host, u.Scheme, x.wrap(base)
		defer func() {
			base.CloseIdleConnections()
			srv.CloseClientConnections()
			if late := s.within(s.soon, "the server's Close", srv.Close); late != nil && err == nil {
				err = late
			}
		}()
		return f(st)
	})
}

// dialSmall connects with a buffer so small that little of what the server does
// not read is sent.
func dialSmall(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if tcp, ok := conn.(*net.TCPConn); ok {
		err = tcp.SetWriteBuffer(smallBuffer)
	}
	return conn, err
}

const smallBuffer = 64 << 10

// labelled counts the goroutines that were started, however indirectly, by f.
func labelled(f func() error) (left func() (int, string), err error) {
	id := "contract-" + strconv.FormatInt(labels.Add(1), 10)
	err = <-aside(func() (err error) {
		pprof.Do(context.Background(), pprof.Labels("contract", id), func(context.Context) { err = f() })
		return err
	})
	return func() (n int, stacks string) {
		var all bytes.Buffer
		var found strings.Builder
		if err := pprof.Lookup("goroutine").WriteTo(&all, 1); err != nil {
			return 0, err.Error()
		}
		for record := range strings.SplitSeq(all.String(), "\n\n") {
			if strings.Contains(record, `"`+id+`"`) {
				count, _, _ := strings.Cut(strings.TrimSpace(record), " ")
				if c, err := strconv.Atoi(count); err == nil {
					n += c
				}
				found.WriteString(record + "\n\n")
			}
		}
		return n, found.String()
	}, err
}

var labels atomic.Int64

// A plain body counts nothing but its Close; net/http may close a body twice.
type plain struct {
	io.Reader
	closes atomic.Int32
}

func (p *plain) Close() error {
	p.closes.Add(1)
	return nil
}

// closed waits for the Close: net/http's HTTP/2 may close a body after the answer is read.
func (p *plain) closed(soon time.Duration) error {
	for deadline := time.Now().Add(soon); p.closes.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return errors.New("the caller's body is left open")
		}
	}
	return nil
}

func networkRules() []rule {
	var rules []rule
	for _, v := range []struct {
		name  string
		http2 bool
	}{{"over HTTP/1.1/", false}, {"over HTTP/2/", true}} {
		add := func(name string, check func(x *exam, http2 bool) error) {
			rules = append(rules, rule{name: v.name + name, check: func(x *exam) error { return check(x, v.http2) }})
		}
		add("a payload is echoed", echoed)
		add("trailers arrive", trailersArrive)
		add("an answer is read while the payload is still sent", earlyAnswer)
		add("20 calls share a connection", shareConnection)
		add("a cancelled call ends at the server", cancelledCall)
		add("an abandoned body ends at the server", abandonedBody)
		add("Close ends a pending Read", closeEndsRead)
		add("no goroutine is left", noneLeft)
		if !v.http2 {
			add("an upgraded connection is written and read", upgraded)
		}
	}
	return rules
}

func echo(w http.ResponseWriter, r *http.Request) {
	http.NewResponseController(w).EnableFullDuplex() //nolint:errcheck // only HTTP/1 needs it
	if r.ContentLength > 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(r.ContentLength, 10))
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	io.Copy(w, r.Body) //nolint:errcheck // the client notices
}

// eachOnline is online for each kind of request.
func (x *exam) eachOnline(http2 bool, handler http.HandlerFunc, f func(st *site, k kind) error) error {
	return x.online(http2, handler, func(st *site) error {
		for _, k := range kinds {
			if err := f(st, k); err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
		}
		return nil
	})
}

func echoed(x *exam, http2 bool) error {
	return x.eachOnline(http2, echo, func(st *site, k kind) error {
		for _, length := range []int64{100 << 10, -1} {
			payload := pattern(100 << 10)
			body := &plain{Reader: bytes.NewReader(payload)}
			resp, err := st.trip(st.request(k, body, length))
			if err != nil {
				return err
			}
			got, err := st.finish(resp)
			if err != nil {
				return err
			}
			if (resp.ProtoMajor == 2) != http2 {
				return fmt.Errorf("answered over %s", resp.Proto)
			}
			if err := same("the echo", got, payload); err != nil {
				return err
			}
			if err := body.closed(st.soon); err != nil {
				return err
			}
		}
		return nil
	})
}

func trailersArrive(x *exam, http2 bool) error {
	handler := func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) //nolint:errcheck // the trailer tells
		w.Header().Set("Trailer", "X-Answer")
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Write([]byte("ok")) //nolint:errcheck // the client notices
		w.Header().Set("X-Answer", r.Trailer.Get("X-Question")+"!")
	}
	return x.eachOnline(http2, handler, func(st *site, k kind) error {
		req := st.request(k, nil, -1)
		req.Trailer = http.Header{"X-Question": nil}
		req.Body = &plain{Reader: io.MultiReader(bytes.NewReader(pattern(1000)), atEnd(func() { req.Trailer.Set("X-Question", "why") }))}
		resp, err := st.trip(req)
		if err != nil {
			return err
		}
		if _, err := st.finish(resp); err != nil {
			return err
		}
		if got := resp.Trailer.Get("X-Answer"); got != "why!" {
			return fmt.Errorf("the trailer is %q, not %q", got, "why!")
		}
		return nil
	})
}

// An atEnd is an empty reader that does something when it is read.
type atEnd func()

func (f atEnd) Read([]byte) (int, error) {
	f()
	return 0, io.EOF
}

func earlyAnswer(x *exam, http2 bool) error {
	large := pattern(2 << 20) // more than sockets hold, or windows
	goOn := make(chan struct{}, 1)
	handler := func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		rc.EnableFullDuplex() //nolint:errcheck // only HTTP/1 needs it
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Write([]byte("early")) //nolint:errcheck // the client notices
		rc.Flush()               //nolint:errcheck // the client notices
		select {
		case <-goOn:
		case <-r.Context().Done():
			return
		}
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, err)
	}
	return x.eachOnline(http2, handler, func(st *site, k kind) error {
		if k.key != "" || k.path == repeatedPath {
			return nil // the others show as much
		}
		resp, err := st.trip(st.request(k, &plain{Reader: bytes.NewReader(large)}, int64(len(large))))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		early := make([]byte, 5)
		if late := st.within(st.soon, "reading the early answer", func() { _, err = io.ReadFull(resp.Body, early) }); late != nil {
			return late
		}
		if err != nil {
			return err
		}
		goOn <- struct{}{}
		rest, err := st.finish(resp)
		if err != nil {
			return err
		}
		return same("the answer", append(early, rest...), fmt.Append([]byte("early"), len(large), nil))
	})
}

func shareConnection(x *exam, http2 bool) error {
	handler := func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) //nolint:errcheck // the client notices
		w.Header().Set("Content-Type", "application/octet-stream")
		if strings.HasSuffix(r.URL.Path, "completions") {
			w.WriteHeader(http.StatusBadRequest)
		}
		w.Write(pattern(20 << 10)) //nolint:errcheck // the client notices
	}
	return x.online(http2, handler, func(st *site) error {
		for i := range 20 {
			resp, err := st.trip(st.request(kinds[i%len(kinds)], &plain{Reader: bytes.NewReader(pattern(100))}, 100))
			if err != nil {
				return err
			}
			if _, err := st.finish(resp); err != nil {
				return err
			}
		}
		// On a busy machine net/http itself gives up a connection whose write it
		// has not seen end.
		if n := st.conns.Load(); n > 3 {
			return fmt.Errorf("%d connections", n)
		}
		return nil
	})
}

// held is a handler that keeps its answer, or the rest of it, until the client
// has gone, and tells when it has begun and when it is over.
func held(answer string) (handler http.HandlerFunc, begun, over chan struct{}) {
	begun, over = make(chan struct{}, 100), make(chan struct{}, 100)
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) //nolint:errcheck // the client notices
		if answer != "" {
			w.Header().Set("Content-Type", "application/octet-stream")
			io.WriteString(w, answer)             //nolint:errcheck // the client notices
			http.NewResponseController(w).Flush() //nolint:errcheck // the client notices
		}
		begun <- struct{}{}
		<-r.Context().Done()
		over <- struct{}{}
	}, begun, over
}

func (st *site) happens(what string, ch <-chan struct{}) error {
	timer := time.NewTimer(st.soon)
	defer timer.Stop()
	select {
	case <-ch:
		return nil
	case <-timer.C:
		return fmt.Errorf("%s: not after %v", what, st.soon)
	}
}

func (st *site) cancelled(k kind, begun, over <-chan struct{}) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	failed := aside(func() error {
		resp, err := st.trip(st.request(k, &plain{Reader: bytes.NewReader(pattern(100))}, 100).WithContext(ctx))
		if err == nil {
			resp.Body.Close()
		}
		return err
	})
	if err := st.happens("the request at the server", begun); err != nil {
		return err
	}
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		return fmt.Errorf("the call ends with %v", err)
	}
	return st.happens("the end at the server", over)
}

func cancelledCall(x *exam, http2 bool) error {
	handler, begun, over := held("")
	return x.eachOnline(http2, handler, func(st *site, k kind) error { return st.cancelled(k, begun, over) })
}

func (st *site) abandoned(k kind, over <-chan struct{}) error {
	resp, err := st.trip(st.request(k, &plain{Reader: bytes.NewReader(pattern(100))}, 100))
	if err != nil {
		return err
	}
	_, err = io.CopyN(io.Discard, resp.Body, 5)
	resp.Body.Close()
	if err != nil {
		return err
	}
	return st.happens("the end at the server", over)
}

func abandonedBody(x *exam, http2 bool) error {
	handler, _, over := held("first and second")
	return x.eachOnline(http2, handler, func(st *site, k kind) error { return st.abandoned(k, over) })
}

func closeEndsRead(x *exam, http2 bool) error {
	handler, _, over := held("first")
	return x.eachOnline(http2, handler, func(st *site, k kind) error {
		resp, err := st.trip(st.request(k, &plain{Reader: bytes.NewReader(pattern(100))}, 100))
		if err != nil {
			return err
		}
		ended := make(chan struct{})
		aside(func() error {
			defer close(ended)
			if _, err := io.Copy(io.Discard, resp.Body); err == nil {
				st.fault("the Read ended as if the body were complete")
			}
			return nil
		})
		time.Sleep(5 * time.Millisecond)
		if err := st.within(st.soon, "Close", func() { resp.Body.Close() }); err != nil {
			return err
		}
		return errors.Join(st.happens("the end of the Read", ended), st.happens("the end at the server", over))
	})
}

func noneLeft(x *exam, http2 bool) error {
	wait, begun, over := held("")
	stream, _, streamOver := held("first and second")
	handler := func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("X-Case") {
		case "wait":
			wait(w, r)
		case "stream":
			stream(w, r)
		default:
			echo(w, r)
		}
	}
	left, err := labelled(func() error {
		return x.eachOnline(http2, handler, func(st *site, k kind) error {
			resp, err := st.trip(st.request(k, &plain{Reader: bytes.NewReader(pattern(100))}, 100))
			if err != nil {
				return err
			}
			if _, err := st.finish(resp); err != nil {
				return err
			}
			marked := func(value string) *site {
				return &site{scene: st.scene, host: st.host, scheme: st.scheme, rt: marker{st.rt, value}}
			}
			return errors.Join(marked("wait").cancelled(k, begun, over), marked("stream").abandoned(k, streamOver))
		})
	})
	if err != nil {
		return err
	}
	deadline := time.Now().Add(x.soon)
	for {
		n, stacks := left()
		if n == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d goroutines are left:\n%s", n, stacks)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// A marker chooses the handler for its requests, which are its own.
type marker struct {
	rt    http.RoundTripper
	value string
}

func (m marker) RoundTrip(req *http.Request) (*http.Response, error) {
	req.Header.Set("X-Case", m.value)
	return m.rt.RoundTrip(req)
}

func upgraded(x *exam, http2 bool) error {
	handler := func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n") //nolint:errcheck // the client notices
		io.Copy(conn, rw)                                                                                        //nolint:errcheck // the client notices
	}
	return x.online(http2, handler, func(st *site) error {
		req := st.request(kind{method: http.MethodGet, path: "/v1/realtime"}, nil, 0)
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "echo")
		resp, err := st.trip(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		return st.converse(resp)
	})
}
