package filestore

import (
	"context"
	"time"
)

// Unfinished lists the keys of multipart uploads that were begun and neither
// completed nor aborted.
func (s *S3) Unfinished(ctx context.Context) (keys []string, err error) {
	for upload := range s.client.ListIncompleteUploads(ctx, s.cfg.Bucket, "", true) {
		if upload.Err != nil {
			return nil, upload.Err
		}
		keys = append(keys, upload.Key)
	}
	return keys, nil
}

// Begin begins a multipart upload and leaves it, as a killed process does.
func (s *S3) Begin(ctx context.Context, key string) error {
	_, err := s.core().NewMultipartUpload(ctx, s.cfg.Bucket, key, putOptions(""))
	return err
}

// AbortAbandoned is what Check does with an age.
func (s *S3) AbortAbandoned(ctx context.Context, before time.Time) { s.abortAbandoned(ctx, before) }

// FileName and Disposition are for the fuzz test.
var (
	FileName    = fileName
	Disposition = disposition
	ContentType = contentType
)
