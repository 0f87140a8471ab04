package egress

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"eventhooks/internal/hook"
)

// grpcRequest writes one Check of the health protocol, all that the client has
// to say on its connection.
func (c *Client) grpcRequest(p hook.Probe, ap netip.AddrPort) ([]byte, error) {
	host := p.Host
	agents := []string{c.userAgent}
	fields := make([]byte, 0, 128)
	for _, name := range slices.Sorted(maps.Keys(p.Headers)) {
		values := p.Headers[name]
		if err := checkHeader(name, values); err != nil {
			return nil, err
		}
		switch key := strings.ToLower(name); key {
		case "host":
			if len(values) > 0 {
				host = values[len(values)-1]
			}
		case "user-agent":
			agents = values
		case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "content-length", "content-type", "te":
			// of this connection and this protocol, which are ours
		default:
			if strings.HasPrefix(key, "grpc-") {
				continue // these too
			}
			for _, value := range values {
				fields = appendField(fields, key, value)
			}
		}
	}
	if host == "" {
		host = ap.String()
	}
	if !authority(host) {
		return nil, errors.New("the host holds a character that no host has")
	}

	// HealthCheckRequest{service}, behind the head of a gRPC message.
	body := make([]byte, 5, 16+len(p.Service))
	if p.Service != "" {
		body = append(body, 1<<3|2)
		body = binary.AppendUvarint(body, uint64(len(p.Service)))
		body = append(body, p.Service...)
	}
	if len(body) > maxFrame {
		return nil, errors.New("the name of the service is too long")
	}
	binary.BigEndian.PutUint32(body[1:5], uint32(len(body)-5))

	block := make([]byte, 0, 256+len(fields))
	block = append(block, methodPost, schemeHTTP)
	if p.Type == "grpcs" {
		block[1] = schemeHTTPS
	}
	block = appendField(block, ":path", "/grpc.health.v1.Health/Check")
	block = appendField(block, ":authority", host)
	block = appendField(block, "content-type", "application/grpc")
	block = appendField(block, "te", "trailers")
	for _, agent := range agents {
		block = appendField(block, "user-agent", agent)
	}
	block = append(block, fields...)
	return appendRequest(make([]byte, 0, 128+len(block)+len(body)), block, body), nil
}

// authority reports whether s holds nothing but what RFC 3986 lets a host and
// a port hold.
func authority(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("!$%&'()*+,-.:;=[]_~", c) >= 0 {
			continue
		}
		return false
	}
	return s != ""
}

// check asks for the health of a service over conn, and waits for the whole of
// the answer: a serving status counts only with the grpc-status behind it.
func check(ctx context.Context, conn net.Conn, request []byte, r hook.ProbeResult, timeout time.Duration) hook.ProbeResult {
	if secure, ok := conn.(*tls.Conn); ok && secure.ConnectionState().NegotiatedProtocol != "h2" {
		return fault(r, hook.FaultHTTP, "the server did not agree to HTTP/2 (ALPN h2)")
	}
	began := time.Now()
	if _, err := conn.Write(request); err != nil {
		return notTaken(ctx, r, err, timeout)
	}
	var a answer
	err := readAnswer(conn, &a)
	if r.Code = a.code; a.code != 0 {
		r.FirstByte = a.headed.Sub(began)
	}
	words, broken := errors.AsType[answerError](err)
	switch {
	case err == nil:
		return judge(a, r)
	case expired(ctx, err) && a.code != 0:
		return fault(r, hook.FaultTimeout, "no whole answer within "+seconds(timeout))
	case expired(ctx, err):
		return fault(r, hook.FaultTimeout, "no answer within "+seconds(timeout))
	case broken:
		return fault(r, hook.FaultHTTP, words.Error())
	}
	return fault(r, hook.FaultTCP, answerReason(err, a.code != 0).Reason)
}

// judge says what a whole answer means.
func judge(a answer, r hook.ProbeResult) hook.ProbeResult {
	if !grpcContent(a.contentType) || a.grpcStatus == "" && a.code != http.StatusOK {
		return fault(r, hook.FaultHTTP, "the answer is not gRPC: HTTP status "+strconv.Itoa(a.code))
	}
	if a.grpcStatus == "" {
		return fault(r, hook.FaultHTTP, "the answer is not gRPC: it has no grpc-status")
	}
	status, err := strconv.ParseUint(a.grpcStatus, 10, 31)
	switch {
	case err != nil:
		return fault(r, hook.FaultHTTP, "the answer is not gRPC: its grpc-status is not a number")
	case status != 0:
		return fault(r, hook.FaultHTTP, "grpc-status "+strconv.FormatUint(status, 10)+grpcWords(status))
	}
	serving, err := servingStatus(a.body)
	if err != nil {
		return fault(r, hook.FaultHTTP, err.Error())
	}
	r.Serving, r.Reason = serving, servingWords(serving)
	return r
}

// grpcContent reports whether a content type is gRPC's: grpc-web, for one, is
// not.
func grpcContent(value string) bool {
	rest, ok := strings.CutPrefix(strings.ToLower(value), "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// servingStatus reads a body that is one HealthCheckResponse.
func servingStatus(body []byte) (int, error) {
	if len(body) < 5 {
		return 0, errors.New("the answer holds no message")
	}
	if body[0] != 0 {
		return 0, errors.New("the answer is compressed, which was not asked for")
	}
	message := body[5:]
	if uint64(len(message)) != uint64(binary.BigEndian.Uint32(body[1:5])) {
		return 0, errors.New("the answer is not one whole message")
	}
	malformed := errors.New("the answer is not a message of the health protocol")
	serving := 0
	for len(message) > 0 {
		tag, n := binary.Uvarint(message)
		if n <= 0 || tag>>3 == 0 {
			return 0, malformed
		}
		message = message[n:]
		var skip uint64
		switch tag & 7 {
		case 0: // varint
			value, n := binary.Uvarint(message)
			if n <= 0 {
				return 0, malformed
			}
			if tag>>3 == 1 {
				serving = int(int32(value)) // an enum has 32 bits
			}
			skip = uint64(n)
		case 1: // 64 bits
			skip = 8
		case 2: // length and bytes
			length, n := binary.Uvarint(message)
			if n <= 0 {
				return 0, malformed
			}
			message = message[n:]
			skip = length
		case 5: // 32 bits
			skip = 4
		default:
			return 0, malformed
		}
		if skip > uint64(len(message)) {
			return 0, malformed
		}
		message = message[skip:]
	}
	return serving, nil
}

// servingWords is the name that the health protocol gives a status.
func servingWords(serving int) string {
	switch serving {
	case 0:
		return "UNKNOWN"
	case 1:
		return "SERVING"
	case 2:
		return "NOT_SERVING"
	case 3:
		return "SERVICE_UNKNOWN"
	}
	return fmt.Sprintf("serving status %d", serving)
}

// grpcWords tells what a grpc-status says about a Check. The server's own
// message is a stranger's, and left out.
func grpcWords(code uint64) string {
	words := [...]string{
		1: "cancelled by the server", 2: "unknown error", 3: "the server does not take the request", 4: "the server had no more time",
		5: "the server does not know the service", 6: "already exists", 7: "permission denied", 8: "the server is out of resources",
		9: "failed precondition", 10: "aborted", 11: "out of range", 12: "the server does not implement the health protocol",
		13: "internal error", 14: "unavailable", 15: "data loss", 16: "not authenticated",
	}
	if code < uint64(len(words)) {
		return ": " + words[code]
	}
	return ""
}
