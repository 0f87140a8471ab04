package egress

import (
	"context"
	"net"
)

// Reach returns a check that connects to address ("host:port") over TCP and
// hangs up. The rules do not apply: the address is the deployment's own
// setting, like that of a queue, and never a user's.
func Reach(address string) func(context.Context) error {
	return func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		if ctx.Err() != nil {
			return &Error{Reason: "no connection in time", Timeout: true, cause: ctx.Err()}
		}
		return dialReason(err)
	}
}
