package fault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"
)

type timeout bool

func (timeout) Error() string   { return "i/o timeout" }
func (t timeout) Timeout() bool { return bool(t) }
func (timeout) Temporary() bool { return false }

type typed string

func (typed) Error() string       { return "typed" }
func (t typed) ErrorType() string { return string(t) }

type refusal time.Duration

func (refusal) Error() string        { return "refused" }
func (refusal) ErrorType() string    { return CircuitOpen }
func (refusal) Is(target error) bool { return target == ErrRejected }

func TestEveryErrorHasATypeOfTheClosedSet(t *testing.T) {
	t.Parallel()
	op := func(op string, err error) error { return &net.OpError{Op: op, Net: "tcp", Err: err} }
	for _, row := range []struct {
		name string
		err  error
		want string
	}{
		{"none", nil, ""},
		{"cancelled", context.Canceled, Canceled},
		{"a deadline", context.DeadlineExceeded, Timeout},
		{"a file's deadline", os.ErrDeadlineExceeded, Timeout},
		{"a network timeout", op("read", timeout(true)), Timeout},
		{"a dial that took too long", op("dial", timeout(true)), Timeout},
		{"our own limit", &TimeLimitError{Limit: "x", After: time.Second}, Timeout},
		{"a network error that is no timeout", timeout(false), ConnectionError},
		{"refused", op("dial", syscall.ECONNREFUSED), ConnectionError},
		{"reset", op("read", os.NewSyscallError("read", syscall.ECONNRESET)), ConnectionError},
		{"a bare reset", syscall.ECONNRESET, ConnectionError},
		{"a broken pipe", syscall.EPIPE, ConnectionError},
		{"EOF", io.EOF, ConnectionError},
		{"unexpected EOF", io.ErrUnexpectedEOF, ConnectionError},
		{"closed", net.ErrClosed, ConnectionError},
		{"no such host", &net.DNSError{Name: "x", IsNotFound: true}, ConnectionError},
		{"DNS took too long", &net.DNSError{Name: "x", IsTimeout: true}, Timeout},
		{"a certificate", &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, Other},
		{"anything else", errors.New("else"), Other},
		{"an error that names its type", typed(StreamError), StreamError},
		{"an error that names a status", typed("407"), "407"},
		{"a base's error with a type of its own", typed("planted sk-1\xff"), Other},
		{"a base's error with a status that is none", typed("+407"), Other},
		{"a base's error with no type", typed(""), Other},
		{"a base's timeout with a type of its own", errors.Join(typed("slow"), context.DeadlineExceeded), Timeout},
		{"a rejection", refusal(0), CircuitOpen},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if got := Type(row.err); got != row.want {
				t.Errorf("Type(%v) = %q, want %q", row.err, got, row.want)
			}
			if row.err == nil {
				return
			}
			for _, wrapped := range []error{fmt.Errorf("wrapped: %w", row.err), errors.Join(errors.New("beside"), row.err)} {
				if got := Type(wrapped); got != row.want {
					t.Errorf("Type(%v) = %q, want %q", wrapped, got, row.want)
				}
			}
		})
	}
}

func TestTheNameAnErrorGivesItselfGoesBeforeAllElse(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		fmt.Errorf("%w %w", context.Canceled, typed(StreamError)),
		fmt.Errorf("%w %w", io.EOF, typed(StreamError)),
		&url.Error{Op: "Post", URL: "http://x", Err: typed(StreamError)},
	} {
		if got := Type(err); got != StreamError {
			t.Errorf("Type(%v) = %q", err, got)
		}
	}
}

func TestAStatusIsAnErrorFrom400On(t *testing.T) {
	t.Parallel()
	for code := range 400 {
		if got := StatusType(code); got != "" {
			t.Fatalf("StatusType(%d) = %q", code, got)
		}
	}
	for code := 400; code < 600; code++ {
		if got := StatusType(code); got != strconv.Itoa(code) {
			t.Fatalf("StatusType(%d) = %q", code, got)
		}
	}
	for _, code := range []int{600, 999, 1 << 40} {
		if got := StatusType(code); got != Other {
			t.Errorf("StatusType(%d) = %q: the set is not closed", code, got)
		}
	}
	if got := StatusType(-1); got != "" {
		t.Errorf("StatusType(-1) = %q", got)
	}
}

func TestTimeoutsAreTimeoutsOfAnyLayer(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		context.DeadlineExceeded,
		os.ErrDeadlineExceeded,
		timeout(true),
		&TimeLimitError{},
		&url.Error{Op: "Get", URL: "http://x", Err: &TimeLimitError{}},
		fmt.Errorf("no timeout: %w, but below: %w", timeout(false), context.DeadlineExceeded),
	} {
		if !IsTimeout(err) {
			t.Errorf("IsTimeout(%v) = false", err)
		}
	}
	for _, err := range []error{nil, context.Canceled, io.EOF, timeout(false)} {
		if IsTimeout(err) {
			t.Errorf("IsTimeout(%v) = true", err)
		}
	}
}

func TestATimeLimitIsANetworkTimeoutThatNamesItsField(t *testing.T) {
	t.Parallel()
	var err net.Error
	limit := &TimeLimitError{Limit: "retry: AttemptTimeout", After: 1500 * time.Millisecond}
	if !errors.As(fmt.Errorf("wrapped: %w", limit), &err) || !err.Timeout() {
		t.Errorf("%v is no net.Error with a timeout", limit)
	}
	if got := limit.Error(); got != "retry: AttemptTimeout of 1.5s is over" {
		t.Errorf("Error() = %q", got)
	}
	if errors.Is(limit, context.DeadlineExceeded) {
		t.Error("a limit of ours passes for the caller's deadline")
	}
}

func TestARejectionIsFoundInATree(t *testing.T) {
	t.Parallel()
	want := refusal(time.Second)
	for _, err := range []error{want, fmt.Errorf("x: %w", want), errors.Join(io.EOF, want)} {
		if !IsRejection(err) {
			t.Errorf("%v holds no rejection", err)
		}
	}
	for _, err := range []error{nil, io.EOF} {
		if IsRejection(err) {
			t.Errorf("%v is a rejection", err)
		}
	}
}

func TestConnectionErrorsAreToldByTheirType(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]bool{
		errors.New("connection refused"): false, // the text does not count
		context.Canceled:                 false,
		syscall.EINVAL:                   false,
		syscall.ECONNREFUSED:             true,
		net.ErrClosed:                    true,
	} {
		if got := IsConnection(err); got != want {
			t.Errorf("IsConnection(%v) = %v", err, got)
		}
	}
	if IsConnection(nil) {
		t.Error("no error is a connection's")
	}
}

func TestTheEndOfAContextIsItsErrAndItsCause(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 0, cause)
	defer cancel()
	err := Ended(ctx)
	if !errors.Is(err, cause) || !errors.Is(err, context.DeadlineExceeded) || !IsTimeout(err) || Type(err) != Timeout {
		t.Errorf("a deadline with a cause is told as %v, a %s", err, Type(err))
	}
	canceled, stop := context.WithCancelCause(t.Context())
	stop(cause)
	if err := Ended(canceled); !errors.Is(err, cause) || !errors.Is(err, context.Canceled) || IsTimeout(err) || Type(err) != Canceled {
		t.Errorf("a cancellation with a cause is told as %v, a %s", err, Type(err))
	}
	plain, stopPlain := context.WithCancel(t.Context())
	stopPlain()
	if err := Ended(plain); err != context.Canceled { //nolint:errorlint // nothing is wrapped without need
		t.Errorf("a cancellation is told as %v", err)
	}
}
