package lambdaevent

import (
	"context"
	"log/slog"
	"time"
)

// warmTime bounds what a function does before its first event.
const warmTime = 2 * time.Second

// Warm makes a function's first call to AWS while the function starts, when
// Lambda gives it a whole CPU and nobody waits: the TLS handshake and reading
// the system's certificates are most of what a first event would otherwise
// take. It is bounded, and a failure is only logged: the first event tries
// again.
func Warm(call func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), warmTime)
	defer cancel()
	if err := call(ctx); err != nil {
		slog.WarnContext(ctx, "first call to AWS failed", "err", err)
	}
}
