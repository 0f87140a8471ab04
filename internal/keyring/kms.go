package keyring

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"

	"eventhooks/internal/awscall"
)

// kms is the one key of KMS that wraps ours.
type kms struct {
	service *awscall.Service
	key     string // ARN
}

// newKMS returns the key of an ARN, in the region that the ARN names.
func newKMS(config aws.Config, suffix, arn string) kms {
	if parts := strings.Split(arn, ":"); len(parts) > 3 && parts[3] != "" {
		config.Region = parts[3]
	}
	return kms{awscall.New(config, suffix, "kms"), arn}
}

// kmsAnswer is what KMS answers to both operations.
type kmsAnswer struct {
	CiphertextBlob []byte
	Plaintext      []byte
	KeyId          string
}

// generate makes a data key. by is the ARN of the KMS key that wrapped it, also
// where the setting names an alias.
func (k kms) generate(ctx context.Context, beside map[string]string) (secret, wrapped []byte, by string, err error) {
	out, err := k.call(ctx, "GenerateDataKey", map[string]any{"KeyId": k.key, "KeySpec": "AES_256", "EncryptionContext": beside})
	if err == nil && len(out.CiphertextBlob) == 0 {
		err = errors.New("kms answers without a wrapped key")
	}
	if err != nil {
		return nil, nil, "", err
	}
	return out.Plaintext, out.CiphertextBlob, out.KeyId, nil
}

// unwrap returns the data key that generate wrapped with the same beside.
func (k kms) unwrap(ctx context.Context, wrapped []byte, beside map[string]string) ([]byte, error) {
	out, err := k.call(ctx, "Decrypt", map[string]any{"KeyId": k.key, "CiphertextBlob": wrapped, "EncryptionContext": beside})
	return out.Plaintext, err
}

func (k kms) call(ctx context.Context, operation string, in map[string]any) (kmsAnswer, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return kmsAnswer{}, err
	}
	answer, err := k.service.Do(ctx, awscall.Request{
		Path:   "/",
		Header: map[string]string{"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "TrentService." + operation},
		Body:   body, Want: http.StatusOK,
	})
	if err != nil {
		return kmsAnswer{}, fmt.Errorf("%s: %w", operation, err)
	}
	var out kmsAnswer
	if json.Unmarshal(answer, &out) != nil { // whose error could quote a key
		return kmsAnswer{}, fmt.Errorf("%s: kms answers something that is not its JSON", operation)
	}
	return out, nil
}
