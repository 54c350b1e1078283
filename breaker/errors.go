package breaker

import (
	"errors"
	"fmt"
	"time"

	"github.com/retrip-go/retrip/internal/fault"
)

var (
	// ErrOpen is what every [OpenError] matches by errors.Is.
	ErrOpen = errors.New("breaker: circuit is open")

	// ErrBodyClosed is what [Observer.End] gets when the caller closes a body
	// before its end.
	ErrBodyClosed = errors.New("breaker: body closed before its end")
)

// An OpenError says that a request was refused: nothing has been sent, so that it
// may safely go somewhere else, whatever its method. It matches [ErrOpen].
type OpenError struct {
	// Key names the breaker, as [Config.Key] says; Transport.Breaker finds it by that.
	Key string

	// RetryAfter is the time until a probe may be made, by whichever request
	// comes first. In a half-open breaker that may be sooner: when the probes
	// under way have come to an end.
	RetryAfter time.Duration
}

func (e *OpenError) Error() string {
	wait := e.RetryAfter.Round(time.Millisecond)
	return fmt.Sprintf("breaker: circuit of %q is open after failures: it is probed in %s, go elsewhere until then", e.Key, wait)
}

// Is makes every OpenError match [ErrOpen].
func (e *OpenError) Is(target error) bool { return target == ErrOpen || target == fault.ErrRejected }

// ErrorType returns the error.type attribute of the metrics, "circuit_open".
func (e *OpenError) ErrorType() string { return fault.CircuitOpen }

// A ConfigError names a field of [Config] whose value is not allowed.
type ConfigError struct {
	Field   string // the field's name
	Value   any    // what it was set to
	Allowed string // the values it may have
}

func (e *ConfigError) Error() string {
	return fmt.Sprintf("breaker: Config.%s is %v, but must be %s", e.Field, e.Value, e.Allowed)
}
