// What an error of a call says, for the words that the operator reads.
import { RestError } from "./rest";
import { ConnectionLost, RpcError } from "./rpc";

/** The stable code of an error. */
export function errorCodeOf(error: unknown): string {
  if (error instanceof RpcError) return error.reason;
  if (error instanceof RestError) return error.code;
  if (error instanceof ConnectionLost) return "network";
  return "other";
}

/** The server's own words, or nothing. */
export function errorDetailOf(error: unknown): string {
  return error instanceof RpcError || error instanceof RestError ? error.detail : "";
}
