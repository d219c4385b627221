// Conversations in the browser's IndexedDB, one record each. Where it is forbidden (some private windows), the page works
// in memory and says so.
const NAME = 'ruvltra';
const STORE = 'conversations';
let database = null;

const promised = (wish) => new Promise((resolve, reject) => {
  wish.onsuccess = () => resolve(wish.result);
  wish.onerror = () => reject(wish.error);
});

/** True if conversations will outlive this page. */
export async function openDatabase() {
  try {
    const wish = indexedDB.open(NAME, 1);
    wish.onupgradeneeded = () => wish.result.createObjectStore(STORE, { keyPath: 'id' });
    database = await promised(wish);
    database.onversionchange = () => database.close();
    return true;
  } catch {
    database = null;
    return false;
  }
}

const table = (mode) => database.transaction(STORE, mode).objectStore(STORE);

export const loadAll = async () => (database ? promised(table('readonly').getAll()) : []);
export const load = async (id) => (database ? promised(table('readonly').get(id)) : undefined);
export const save = async (conversation) => { if (database) await promised(table('readwrite').put(conversation)); };
export const erase = async (id) => { if (database) await promised(table('readwrite').delete(id)); };
