/** Files and folders out of a drop or a file field, each with the folder it stands in. */

export interface Picked {
  file: File;
  /** Folders above the file, below where it was dropped. */
  folders: string[];
}

/** More than this is a mistake more often than a wish. */
export const MOST_FILES = 10_000;

/** What was dropped, folders walked through. Must be called in the drop event itself: the browser forgets the items. */
export async function droppedFiles(data: DataTransfer): Promise<Picked[]> {
  const entries = [...data.items].map((item) => (item.kind === 'file' ? item.webkitGetAsEntry?.() : null));
  const loose = [...data.files];
  if (!entries.some(Boolean)) return loose.map((file) => ({ file, folders: [] }));
  const picked: Picked[] = [];
  for (const entry of entries) if (entry) await walk(entry, [], picked);
  return picked;
}

/** A file field's files; a folder field tells where each stood. */
export function fieldFiles(files: Iterable<File>): Picked[] {
  return [...files].slice(0, MOST_FILES).map((file) => ({ file, folders: file.webkitRelativePath.split('/').slice(0, -1).filter(Boolean) }));
}

async function walk(entry: FileSystemEntry, folders: string[], picked: Picked[]): Promise<void> {
  if (picked.length >= MOST_FILES) return;
  if (entry.isFile) {
    const file = await new Promise<File>((settle, fail) => (entry as FileSystemFileEntry).file(settle, fail));
    picked.push({ file, folders });
    return;
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  // The browser tells a folder's entries in pieces, the last one empty.
  for (;;) {
    const piece = await new Promise<FileSystemEntry[]>((settle, fail) => reader.readEntries(settle, fail));
    if (piece.length === 0) return;
    for (const inner of piece) await walk(inner, [...folders, entry.name], picked);
  }
}
