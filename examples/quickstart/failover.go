package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/retrip-go/retrip/breaker"
	retrip "github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
	"github.com/retrip-go/retrip/retry"
)

// failover makes calls that have a second place to go while home is down. They
// have a Transport of their own, which differs from the other by its Targets.
func (s *story) failover(ctx context.Context) error {
	s.title("Fail-over: home is down, a second provider answers, until home is back")
	home, spare := openaitest.NewServer(), openaitest.NewServer()
	defer home.Close()
	defer spare.Close()
	home.Always(openaitest.Chat, openaitest.Status(503))
	spare.Always(openaitest.Chat, openaitest.Say("The spare is here."))

	cfg := s.cfg
	cfg.Targets = []retrip.Target{
		{}, // home: where the request says
		{Name: "spare", BaseURL: spare.URL, Header: http.Header{"Authorization": {"Bearer other"}}, Tier: 1},
	}
	transport := retrip.NewTransport(nil, cfg) //nolint:contextcheck // it outlives every context
	defer transport.CloseIdleConnections()
	c := chat{client: &http.Client{Transport: transport}, url: home.URL, key: s.chat.key, model: s.chat.model}

	for range breaker.DefaultFailureThreshold {
		if err := pause(ctx, apart); err != nil {
			return err
		}
		if err := s.served(ctx, c); err != nil {
			return err
		}
	}
	s.line("home's breaker is open: home is not asked")
	if err := s.served(ctx, c); err != nil {
		return err
	}
	home.Heal()
	if err := pause(ctx, openDuration); err != nil {
		return err
	}
	return s.served(ctx, c)
}

// served makes a call that is expected to succeed, and tells where it went.
func (s *story) served(ctx context.Context, c chat) error {
	var report retry.Report
	answer, err := c.ask(retry.WithReport(ctx, &report), "Who is there?")
	if err != nil {
		return err
	}
	var tried []string
	for _, try := range report.Tried {
		tried = append(tried, fmt.Sprint(try.Target, " ", try.Status))
	}
	s.line("answer: %q, tried: %s", answer, strings.Join(tried, ", "))
	return nil
}
