module github.com/retrip-go/retrip/internal/batch/aws

go 1.25.0

replace github.com/retrip-go/retrip => ../../..

require (
	github.com/aws/aws-sdk-go-v2 v1.47.4
	github.com/cenkalti/backoff/v4 v4.3.0
	github.com/retrip-go/retrip v0.0.0-00010101000000-000000000000
	go.opentelemetry.io/otel/metric v1.40.0
)

require (
	github.com/aws/smithy-go v1.28.6 // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/go-logr/logr v1.4.3 // indirect
	github.com/go-logr/stdr v1.2.2 // indirect
	go.opentelemetry.io/auto/sdk v1.2.1 // indirect
	go.opentelemetry.io/otel v1.40.0 // indirect
	go.opentelemetry.io/otel/trace v1.40.0 // indirect
)
