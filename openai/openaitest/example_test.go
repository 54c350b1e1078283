package openaitest_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/retrip-go/retrip/openai/openaitest"
)

func call(client *http.Client, srv *openaitest.Server, payload string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, srv.URL+"/chat/completions", strings.NewReader(payload))
	if err != nil {
		return nil, err
	}
	return client.Do(req)
}

func ExampleNewServer() {
	srv := openaitest.NewServer()
	defer srv.Close()
	srv.Script(openaitest.Chat,
		openaitest.Status(503),
		openaitest.Status(429).With("Retry-After", "1"),
	)
	for range 3 {
		resp, err := call(srv.Client(), srv, `{"messages":[{"role":"user","content":"hi"}]}`)
		if err != nil {
			fmt.Println(err)
			return
		}
		resp.Body.Close()
		fmt.Printf("%d %q\n", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	fmt.Println(srv.Count(openaitest.Chat), "requests")
	// Output:
	// 503 ""
	// 429 "1"
	// 200 ""
	// 3 requests
}

func ExampleNewTLSServer() {
	srv := openaitest.NewTLSServer()
	defer srv.Close()
	resp, err := call(srv.Client(), srv, `{}`)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	fmt.Println(resp.Proto, resp.Status)
	// Output: HTTP/2.0 200 OK
}

func ExampleAnswer_CutAfter() {
	srv := openaitest.NewServer()
	defer srv.Close()
	srv.Script(openaitest.Chat, openaitest.Stream("data: 1\n\n", "data: 2\n\n", "data: 3\n\n").CutAfter(2))
	resp, err := call(srv.Client(), srv, `{"stream":true}`)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		fmt.Print(lines.Text(), ";")
	}
	fmt.Println(lines.Err())
	// Output: data: 1;;data: 2;;unexpected EOF
}

// Anthropic's messages are known by the header that its clients send.
func ExampleServer_Script_anthropic() {
	srv := openaitest.NewServer()
	defer srv.Close()
	srv.Script(openaitest.Messages,
		openaitest.Status(529),
		openaitest.Say("Hello.").ErrorAfter(4, "overloaded_error", "", "too many"),
	)
	for range 3 {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, srv.URL+"/messages", strings.NewReader(`{"stream":true}`))
		if err != nil {
			fmt.Println(err)
			return
		}
		req.Header.Set("Anthropic-Version", "2023-06-01")
		resp, err := srv.Client().Do(req)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Print(resp.StatusCode)
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				fmt.Print(" ", name)
			}
		}
		fmt.Println()
		resp.Body.Close()
	}
	// Output:
	// 529
	// 200 message_start content_block_start ping content_block_delta error
	// 200 message_start content_block_start ping content_block_delta content_block_delta content_block_delta content_block_delta content_block_delta content_block_delta content_block_delta content_block_stop message_delta message_stop
}

func ExampleServer_Always() {
	srv := openaitest.NewServer()
	defer srv.Close()
	srv.Always(openaitest.Chat, openaitest.Error(500, "server_error", "", "out of order"))
	for range 2 {
		resp, err := call(srv.Client(), srv, `{}`)
		if err != nil {
			fmt.Println(err)
			return
		}
		resp.Body.Close()
		fmt.Println(resp.Status)
		srv.Heal()
	}
	// Output:
	// 500 Internal Server Error
	// 200 OK
}

func ExampleServer_Wait() {
	srv := openaitest.NewServer()
	defer srv.Close()
	srv.Script(openaitest.Chat, openaitest.OK().StallAfter(1))
	resp, err := call(srv.Client(), srv, `{"stream":true}`)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close() // before the stream is over
	err = srv.Wait(context.Background(), func() bool { return srv.Abandoned() == 1 })
	fmt.Println(err)
	// Output: <nil>
}
