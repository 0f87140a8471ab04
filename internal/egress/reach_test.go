package egress_test

import (
	"context"
	"errors"
	"testing"

	"eventhooks/internal/egress"
)

func TestReach(t *testing.T) {
	listening := raw(t, untilClosed)
	if err := egress.Reach(listening)(t.Context()); err != nil {
		t.Errorf("Reach of a listener = %v", err)
	}
	if err := egress.Reach("127.0.0.1:1")(t.Context()); err == nil || err.Error() != "connection refused" {
		t.Errorf("Reach of a closed port = %v; want: connection refused", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := egress.Reach(listening)(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Reach with no time = %v; want the context's error", err)
	}
}
