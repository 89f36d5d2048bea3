import { mount } from 'svelte';
import App from './App.svelte';
import './app.css';
import { preferences } from './stores/preferences.svelte';

preferences.start();
const target = document.getElementById('app');
if (target) mount(App, { target });
