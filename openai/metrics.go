package openai

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/measure"
	"github.com/retrip-go/retrip/internal/roundtrip"
)

// The names of this package's metrics and attributes. The gen_ai.* ones are
// those of OpenTelemetry's conventions for generative AI, which have a repository
// of their own since 2026 and are in development:
// https://github.com/open-telemetry/semantic-conventions-genai.
const (
	metricInferenceDuration = "gen_ai.client.inference.duration"
	metricOperationDuration = "gen_ai.client.operation.duration" // of what is no inference
	metricFirstChunk        = "gen_ai.client.inference.time_to_first_chunk"
	metricInputOfOne        = "gen_ai.client.inference.operation.input_tokens"
	metricOutputOfOne       = "gen_ai.client.inference.operation.output_tokens"
	metricInput             = "gen_ai.client.inference.usage.input_tokens"
	metricOutput            = "gen_ai.client.inference.usage.output_tokens"
	metricCacheRead         = "gen_ai.client.inference.usage.cache_read.input_tokens"
	metricCacheWrite        = "gen_ai.client.inference.usage.cache_write.input_tokens"
	metricReasoning         = "gen_ai.client.inference.usage.reasoning.output_tokens"
	metricStreamOutcomes    = "retrip.client.stream.outcomes"
	metricResumes           = "retrip.client.resumes"
	metricAttemptDuration   = "retrip.client.attempt.duration"

	attrOperation = "gen_ai.operation.name"
	attrProvider  = "gen_ai.provider.name"
	attrModel     = "gen_ai.request.model"
	attrAnswered  = "gen_ai.response.model"
	attrOutcome   = "retrip.stream.outcome"
	attrResume    = "retrip.resume.outcome"
	attrAddress   = "server.address"
	attrPort      = "server.port"
	attrStatus    = "http.response.status_code"
	attrErrorType = "error.type"
)

// models are what was asked for and what answered.
type models struct{ asked, answered string }

func (m models) clone() models { return models{strings.Clone(m.asked), strings.Clone(m.answered)} }

// labels are what tells one series of this package from another.
type labels struct {
	operation     string
	models        models
	address, port string
	status        int
	errorType     string
	outcome       string
	resume        string
	target        string
}

func (l labels) attributes() []attribute.KeyValue {
	attrs := []attribute.KeyValue{attribute.String(attrOperation, l.operation)}
	attrs = measure.Append(attrs, attrProvider, providerOf(l.address))
	attrs = measure.Append(attrs, attrModel, l.models.asked)
	attrs = measure.Append(attrs, attrAnswered, l.models.answered)
	attrs = measure.Append(attrs, attrOutcome, l.outcome)
	attrs = measure.Append(attrs, attrResume, l.resume)
	attrs = measure.Append(attrs, attrAddress, l.address)
	if port, err := strconv.Atoi(l.port); err == nil {
		attrs = append(attrs, attribute.Int(attrPort, port))
	}
	if l.status != 0 {
		attrs = append(attrs, attribute.Int(attrStatus, l.status))
	}
	attrs = measure.Append(attrs, attrTarget, l.target)
	return measure.Append(attrs, attrErrorType, l.errorType)
}

// A server is where a request goes. A provider that redirects may name any.
type server struct{ address, port string }

func (s server) clone() server { return server{strings.Clone(s.address), strings.Clone(s.port)} }

func serverOf(u *url.URL) server {
	if address := measure.Label(u.Hostname()); address != "" {
		return server{address, portOf(u)}
	}
	return server{}
}

// A labeller makes labels whose number is bounded.
type labeller struct {
	servers *measure.Bound[server]
	models  *measure.Bound[models]
	options *measure.Cache[labels]
}

func newLabeller() labeller {
	return labeller{
		servers: measure.NewBound(measure.MaxAddresses, server.clone),
		models:  measure.NewBound(measure.MaxModels, models.clone),
		options: measure.NewCache(labels.attributes),
	}
}

func (b *labeller) labels(operation string, m models, u *url.URL) labels {
	l := labels{operation: operation, models: b.modelsOf(m)}
	if s := serverOf(u); s.address != "" {
		s = b.serverOf(s)
		l.address, l.port = s.address, s.port
	}
	return l
}

// modelsOf returns m, or what stands for all beyond the bound.
func (b *labeller) modelsOf(m models) models {
	if kept, ok := b.models.Admit(m); ok {
		return kept
	}
	m.asked = measure.Other
	if m.answered != "" {
		m.answered = measure.Other
	}
	return m
}

func (b *labeller) serverOf(s server) server {
	if kept, ok := b.servers.Admit(s); ok {
		return kept
	}
	return server{address: measure.Other}
}

// A series is what labels are made of, as it comes.
type series struct {
	operation    string
	models       models
	scheme, host string
	status       int
	errorType    string
	target       string
}

func (s series) hash() int { return 3*len(s.models.asked) + len(s.host) + s.status + len(s.errorType) }

// kept returns s without what belongs to a URL, which is not to be kept with it;
// false if it is too long to be kept at all.
func (s series) kept() (series, bool) {
	var schemeOK, hostOK bool
	s.scheme, schemeOK = measure.Kept(s.scheme)
	s.host, hostOK = measure.Kept(s.host)
	return s, schemeOK && hostOK
}

// An operationRecorder records calls, after all their attempts.
type operationRecorder struct {
	labeller

	recent     measure.Recent[series, operationOptions]
	inferences measure.Histogram // their durations
	others     measure.Histogram
	firstChunk measure.Histogram
	tokens     tokenRecorder
	streams    measure.Counter
	resumes    measure.Counter
}

func newOperationRecorder(provider metric.MeterProvider) *operationRecorder {
	m := measure.Meter(provider, "openai")
	const duration = "Time from the start of a call to the last byte of its answer."
	return &operationRecorder{
		labeller:   newLabeller(),
		inferences: measure.NewHistogram(m, metricInferenceDuration, "s", duration, measure.SecondsBounds),
		others:     measure.NewHistogram(m, metricOperationDuration, "s", duration, measure.SecondsBounds),
		firstChunk: measure.NewHistogram(m, metricFirstChunk, "s", "Time from the start of a call to the first useful event of its stream.", measure.SecondsBounds),
		tokens:     newTokenRecorder(m),
		streams:    measure.NewCounter(m, metricStreamOutcomes, "{stream}", "Streams by how they ended."),
		resumes:    measure.NewCounter(m, metricResumes, "{resume}", "Breaks of streams that can be resumed, by what became of them."),
	}
}

// durationOf returns the instrument for the durations of an operation.
func (r *operationRecorder) durationOf(operation string) measure.Histogram {
	switch operation {
	case "chat", "text_completion", "generate_content":
		return r.inferences
	}
	return r.others
}

// operationOptions are the attributes of what one operation records.
type operationOptions struct{ duration, answer *measure.Options }

func (r *operationRecorder) optionsOf(s series, u *url.URL) operationOptions {
	if known, ok := r.recent.Find(s.hash(), s); ok {
		return known
	}
	l := r.labels(s.operation, s.models, u)
	l.target = s.target
	made := operationOptions{answer: r.options.Get(l)}
	l.errorType = s.errorType
	made.duration = r.options.Get(l)
	if kept, ok := s.kept(); ok {
		r.recent.Keep(s.hash(), kept, made)
	}
	return made
}

// record records an operation that is over. said is what its answer said, if
// it had one.
func (r *operationRecorder) record(o *operation, said summary, failure string) {
	u, target := o.answeredBy()
	options := r.optionsOf(series{
		operation: o.kind.operation, models: models{o.call.Model, said.model},
		scheme: u.Scheme, host: u.Host, errorType: failure, target: target,
	}, u)
	if said.first > 0 {
		r.firstChunk.Record(&o.call, said.first.Seconds(), options.answer)
	}
	r.tokens.record(&o.call, &said.usage, options.answer)
	r.durationOf(o.kind.operation).Record(&o.call, time.Since(o.call.Start).Seconds(), options.duration)
}

// enabled reports whether somebody reads what record records: no label is
// looked up for nobody.
func (r *operationRecorder) enabled(ctx context.Context) bool {
	return r.inferences.Enabled(ctx) || r.others.Enabled(ctx) || r.tokens.enabled(ctx) || r.firstChunk.Enabled(ctx)
}

// streamOver counts a stream by how it ended.
func (r *operationRecorder) streamOver(req *http.Request, outcome string) {
	c := call.From(req.Context())
	if !r.streams.Enabled(c) {
		return
	}
	about := call.SubjectOf(req.Context(), c)
	l := r.labels(endpointOf(req).operation, models{asked: about.Model}, req.URL)
	l.outcome, l.target = outcome, about.Target
	r.streams.Add(c, 1, r.options.Get(l))
}

// resumed counts what became of a break of an operation's stream.
func (r *operationRecorder) resumed(o *operation, outcome string) {
	if !r.resumes.Enabled(&o.call) {
		return
	}
	l := r.labels(o.kind.operation, models{asked: o.call.Model}, o.url)
	l.resume = outcome
	r.resumes.Add(&o.call, 1, r.options.Get(l))
}

// A MetricsConfig says where a MetricsTransport records. The zero value is
// fit for use.
type MetricsConfig struct {
	// MeterProvider makes the instrument. Nil means the global one.
	MeterProvider metric.MeterProvider
}

// A MetricsTransport is an http.RoundTripper that records each request that
// passes it as an attempt: from its start to the response's headers or its
// failure. It is safe for concurrent use. Make one with NewMetricsTransport.
type MetricsTransport struct {
	base http.RoundTripper

	labeller

	recent   measure.Recent[series, *measure.Options]
	duration measure.Histogram
}

// NewMetricsTransport returns a MetricsTransport over base; nil means
// BaseTransport(). It stands below retries, which is where NewTransport puts
// it.
func NewMetricsTransport(base http.RoundTripper, cfg MetricsConfig) *MetricsTransport {
	if base == nil {
		base = BaseTransport()
	}
	m := measure.Meter(cfg.MeterProvider, "openai")
	return &MetricsTransport{
		base:     base,
		labeller: newLabeller(),
		duration: measure.NewHistogram(m, metricAttemptDuration, "s", "Time from sending a request to its response's headers.", measure.SecondsBounds),
	}
}

// RoundTrip returns what the base returns, but for a response without a Body,
// which gets http.NoBody, a response beside an error, which is closed, and
// neither, which is an error.
func (t *MetricsTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	// Asked before: what is recorded has to have a start.
	recording := req.URL != nil && t.duration.Enabled(req.Context())
	var start time.Time
	if recording {
		start = time.Now()
	}
	response, err := t.base.RoundTrip(req)
	response, err = roundtrip.Mend(req, response, err)
	if recording {
		t.record(req, time.Since(start), response, err)
	}
	return response, err
}

func (t *MetricsTransport) record(req *http.Request, took time.Duration, response *http.Response, err error) {
	ctx := req.Context()
	var about call.Subject
	if c := call.From(ctx); c != nil {
		about = *call.SubjectOf(ctx, c)
	}
	s := series{operation: endpointOf(req).operation, models: models{asked: about.Model}, target: about.Target, scheme: req.URL.Scheme, host: req.URL.Host}
	if response != nil {
		s.status, s.errorType = statusLabel(response.StatusCode), fault.StatusType(response.StatusCode)
	} else {
		s.errorType = attemptFailure(ctx, err)
	}
	t.duration.Record(ctx, took.Seconds(), t.optionsOf(s, req.URL))
}

func (t *MetricsTransport) optionsOf(s series, u *url.URL) *measure.Options {
	if known, ok := t.recent.Find(s.hash(), s); ok {
		return known
	}
	l := t.labels(s.operation, s.models, u)
	l.status, l.errorType, l.target = s.status, s.errorType, s.target
	made := t.options.Get(l)
	if kept, ok := s.kept(); ok {
		t.recent.Keep(s.hash(), kept, made)
	}
	return made
}

// statusLabel returns a status, or 0 for what is none: HTTP/2 lets a server
// send any number.
func statusLabel(code int) int {
	if code < 100 || code > 599 {
		return 0
	}
	return code
}

// attemptFailure names the error of an attempt. A base returns its context's
// error; whether that was a time limit of ours is known from the cause.
func attemptFailure(ctx context.Context, err error) string {
	if ctx.Err() != nil {
		return fault.Type(context.Cause(ctx))
	}
	return fault.Type(err)
}

// CloseIdleConnections closes those of the base, if it has any.
func (t *MetricsTransport) CloseIdleConnections() {
	roundtrip.CloseIdleConnections(t.base)
}

func portOf(u *url.URL) string {
	if port := u.Port(); port != "" {
		return measure.Label(port)
	}
	if u.Scheme == "http" {
		return "80"
	}
	return "443"
}

// providers are the values of gen_ai.provider.name, by the end of the host's
// name. Others have OpenAI's API shape, and are called so.
var providers = []struct{ host, name string }{
	{".openai.azure.com", "azure.ai.openai"},
	{".services.ai.azure.com", "azure.ai.inference"},
	{".cognitiveservices.azure.com", "azure.ai.openai"},
	{"api.groq.com", "groq"},
	{"api.deepseek.com", "deepseek"},
	{"api.mistral.ai", "mistral_ai"},
	{"api.perplexity.ai", "perplexity"},
	{"api.cohere.ai", "cohere"},
	{"api.cohere.com", "cohere"},
	{"api.x.ai", "x_ai"},
	{"api.anthropic.com", "anthropic"},
	{"generativelanguage.googleapis.com", "gcp.gemini"},
	{"aiplatform.googleapis.com", "gcp.vertex_ai"},
	{".amazonaws.com", "aws.bedrock"},
}

func providerOf(host string) string {
	if host == "" || host == measure.Other {
		return ""
	}
	for _, p := range providers {
		if strings.HasSuffix(host, p.host) {
			return p.name
		}
	}
	return "openai"
}
