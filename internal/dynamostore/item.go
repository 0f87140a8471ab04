package dynamostore

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// item is an item of a table, or a part of one: attributes by name.
type item = map[string]types.AttributeValue

func str(v string) types.AttributeValue { return &types.AttributeValueMemberS{Value: v} }

func num(v int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(v, 10)}
}

func bin(v []byte) types.AttributeValue { return &types.AttributeValueMemberB{Value: v} }

func boolean(v bool) types.AttributeValue { return &types.AttributeValueMemberBOOL{Value: v} }

// putStr and putNum leave out what is zero: an attribute costs its name too.
func putStr(it item, name, v string) {
	if v != "" {
		it[name] = str(v)
	}
}

func putNum(it item, name string, v int64) {
	if v != 0 {
		it[name] = num(v)
	}
}

// reader takes an item apart. An attribute that is not there is zero; one of
// another type is an error, and the first error stays.
type reader struct {
	it  item
	err error
}

func (r *reader) fail(name string, v types.AttributeValue) {
	if r.err == nil {
		r.err = fmt.Errorf("attribute %s is a %T", name, v)
	}
}

func (r *reader) str(name string) string {
	switch v := r.it[name].(type) {
	case nil:
		return ""
	case *types.AttributeValueMemberS:
		return v.Value
	default:
		r.fail(name, v)
		return ""
	}
}

func (r *reader) num(name string) int64 {
	switch v := r.it[name].(type) {
	case nil:
		return 0
	case *types.AttributeValueMemberN:
		n, err := strconv.ParseInt(v.Value, 10, 64)
		if err != nil && r.err == nil {
			r.err = fmt.Errorf("attribute %s: %w", name, err)
		}
		return n
	default:
		r.fail(name, v)
		return 0
	}
}

func (r *reader) bool(name string) bool {
	switch v := r.it[name].(type) {
	case nil:
		return false
	case *types.AttributeValueMemberBOOL:
		return v.Value
	default:
		r.fail(name, v)
		return false
	}
}

// bytes reads binary, or text as its bytes; nil when the attribute is not
// there.
func (r *reader) bytes(name string) []byte {
	switch v := r.it[name].(type) {
	case nil:
		return nil
	case *types.AttributeValueMemberB:
		return v.Value
	case *types.AttributeValueMemberS:
		return []byte(v.Value)
	default:
		r.fail(name, v)
		return nil
	}
}

// unpack reads what pack has packed; nil when the attribute is not there.
func (r *reader) unpack(name string) []byte {
	packed := r.bytes(name)
	if packed == nil || r.err != nil {
		return nil
	}
	plain, err := unpack(packed)
	if err != nil {
		r.err = fmt.Errorf("attribute %s: %w", name, err)
	}
	return plain
}

// json decodes JSON into v, which it leaves alone when there is none.
func (r *reader) json(name string, data []byte, v any) {
	if len(data) == 0 || r.err != nil {
		return
	}
	if err := json.Unmarshal(data, v); err != nil {
		r.err = fmt.Errorf("attribute %s: %w", name, err)
	}
}
