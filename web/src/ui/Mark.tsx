/** The sign of the product: two lines, connected crosswise. */
export function Mark({ size = 32 }: { size?: number }) {
  return (
    <svg className="mark" width={size} height={size} viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="9" />
      <path d="M9 11.5h5.5c5 0 3.500 9 8.500 9M9 20.500h4M19.500 11.500H23" />
      <circle cx="8.500" cy="11.500" r="2.300" />
      <circle cx="23.500" cy="20.500" r="2.300" />
      <circle cx="8.500" cy="20.500" r="2.300" />
      <circle cx="23.500" cy="11.500" r="2.300" />
    </svg>
  );
}
