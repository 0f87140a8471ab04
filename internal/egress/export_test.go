package egress

import (
	"io"
	"net/netip"

	"eventhooks/internal/hook"
)

// SetBackstop makes f judge what the rules let through, so that a test that
// expects a refusal sends no packet when it is wrong.
func (c *Client) SetBackstop(f func(address string) error) { c.backstop = f }

// SetRouted makes f say whether this machine knows a way to an address.
func (c *Client) SetRouted(f func(netip.AddrPort) bool) { c.routed = f }

// Routed is what says so otherwise.
var Routed = routed

// ReadAnswer reads an answer in HTTP/2.
func ReadAnswer(conn io.ReadWriter) (code int, contentType, grpcStatus string, body []byte, err error) {
	var a answer
	err = readAnswer(conn, &a)
	return a.code, a.contentType, a.grpcStatus, a.body, err
}

// GRPCRequest is what a probe of gRPC sends.
func (c *Client) GRPCRequest(p hook.Probe, ap netip.AddrPort) ([]byte, error) {
	return c.grpcRequest(p, ap)
}

// MaxConnection bounds what ReadAnswer reads.
const MaxConnection = maxConnection
